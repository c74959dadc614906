"""Keeps passwords and tokens of the environment out of everything that is written: logs, errors, links, databases."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SHORTEST = 5
"""Characters of a secret that can be told from other text."""

_NAMES = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIALS?|WEBHOOK)S?$")
"""Of variables that are secrets as a whole."""
_USER_INFORMATION = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)[^/?#\s'\"<>]*@", re.IGNORECASE)


def secrets() -> list[str]:
    """Every secret of the environment as it now is, longest first: values of variables that are named like one, and
    passwords in addresses, as they are written and as they are meant."""
    found = set[str]()
    for name, value in os.environ.items():
        if _NAMES.search(name.upper()):
            found.add(value)
            if "://" in value:  # the path of a webhook is what lets one post to it
                address = urlsplit(value)
                found |= {part for part in (address.path.strip("/"), address.query) if len(part) > 2 * SHORTEST}
        for match in _USER_INFORMATION.finditer(value):
            user, _, password = match[0].removeprefix(match["scheme"]).removesuffix("@").partition(":")
            found |= {password or user, unquote(password or user)}
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def redacted(text: str) -> str:
    """`text` without the secrets of the environment, and without the user information of any address."""
    for secret in secrets():
        text = text.replace(secret, HIDDEN)
    return _USER_INFORMATION.sub(r"\g<scheme>", text)


def redact_error(error: BaseException) -> None:
    """Take the secrets out of an error, and out of those that it came from, in place."""
    seen = set[int]()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        one.args = tuple(_clean(value) for value in one.args)
        for name, value in list(vars(one).items()):
            cleaned = _clean(value)
            if cleaned is not value:
                setattr(one, name, cleaned)


def _clean(value: Any) -> Any:
    """Text without secrets; anything else as it is, unless it would be written with one."""
    written = value if isinstance(value, str) else _written(value)
    cleaned = redacted(written)
    return value if cleaned == written else cleaned


def _written(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object that cannot be written is not written either
        return ""


@contextmanager
def errors_redacted() -> Iterator[None]:
    """Errors leave the block without secrets."""
    try:
        yield
    except BaseException as error:
        redact_error(error)
        raise


def keep_secrets_out_of_logs() -> None:
    """From now on no record of any logger of this process, and no traceback that ends it, has a secret."""
    made_by = logging.getLogRecordFactory()
    if getattr(made_by, "redacts", False):
        return

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made_by(*args, **kwargs)
        try:
            written = record.getMessage()
        except (TypeError, ValueError):  # logging reports that itself
            return record
        cleaned = redacted(written)
        if cleaned != written:
            record.msg, record.args = cleaned, ()
        if record.exc_info and record.exc_info[1] is not None:
            redact_error(record.exc_info[1])
        return record

    make.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(make)
    sys.excepthook = _print_redacted


def _print_redacted(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, where))))
