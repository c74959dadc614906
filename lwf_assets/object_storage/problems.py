"""What an object store answers when it does not do what it is asked, in one line that says what to do.

obstore hands on what the service said, as text of several kilobytes in which the service's own error code is the part
that matters.
"""

from __future__ import annotations

import re

from obstore.exceptions import BaseError

from lwf_assets.errors import LwfError

VARIABLE = "LWF_REMOTE"

_NO_RIGHT = "the credentials of the environment have no right to do this; they need to list, read and write"
_CODES = {
    "NoSuchBucket": "there is no such bucket; create it, or correct the name",
    "ContainerNotFound": "there is no such container; create it, or correct the name",
    "AccessDenied": _NO_RIGHT,
    "AllAccessDisabled": _NO_RIGHT,
    "AuthorizationPermissionMismatch": _NO_RIGHT,
    "InvalidAccessKeyId": "the access key is unknown to it; correct AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not belong to the access key; correct AWS_SECRET_ACCESS_KEY",
    "AuthenticationFailed": "it does not take the credentials of the environment; correct them",
    "ExpiredToken": "the credentials of the environment have expired; renew them",
    "InvalidToken": "the session token is not valid; correct AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is off by more than it allows; set the clock",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION to it",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION to it",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION to it",
    "InvalidBucketName": "this is no valid name of a bucket; correct it",
}
_NO_CREDENTIALS = (
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
    "CredentialsProvider",
    "no credential",
)
_ELSEWHERE = ("301 moved", "redirect without location", "bare redirect")
_AWAY = (
    "HTTP error:",  # a line that was cut, also in the middle of a body
    *("error sending request", "Connect", "connection closed", "timed out", "operation timed out", "dns error"),
    *("500 Internal", "502 Bad", "503 Service", "504 Gateway", "429 Too", "SlowDown", "RequestTimeout"),
)


class ObjectStorageError(LwfError):
    """What was asked cannot be done, and will not be by waiting."""


class AwayError(LwfError):
    """Nobody answers now."""


def problem_with(url: str, error: BaseException) -> LwfError:
    """The error to raise in place of obstore's."""
    said = str(error)
    code = re.search(r"<Code>(\w+)</Code>", said)
    if code is not None and code[1] in _CODES:
        return ObjectStorageError(f"{VARIABLE}={url}: {_CODES[code[1]]}")
    if any(mark in said for mark in _NO_CREDENTIALS):
        return ObjectStorageError(
            f"{VARIABLE}={url}: the environment holds no credentials for it; set them (for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY)"
        )
    if any(mark in said.lower() for mark in _ELSEWHERE):
        return ObjectStorageError(f"{VARIABLE}={url}: {_CODES['PermanentRedirect']}")
    if any(mark in said for mark in _AWAY):
        return AwayError(f"{VARIABLE}={url}: does not answer ({_first_line(said)})")
    if "403 Forbidden" in said or "401 Unauthorized" in said or isinstance(error, PermissionError):
        return ObjectStorageError(f"{VARIABLE}={url}: {_NO_RIGHT}")
    return ObjectStorageError(f"{VARIABLE}={url}: {_first_line(said)}")


def is_from_the_store(error: BaseException) -> bool:
    """Whether `problem_with` is to be asked about it."""
    return isinstance(error, BaseError | OSError)


def is_about_the_bucket(error: BaseException) -> bool:
    """Whether what was not found is the bucket, and not an object in it."""
    return "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error)


def _first_line(said: str) -> str:
    line = said.strip().splitlines()[0] if said.strip() else "no reason was given"
    return line.split("Debug source")[0].strip()[:300]
