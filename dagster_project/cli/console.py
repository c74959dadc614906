"""Where commands print. Text that comes from data cannot give orders to the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook, RenderResult
from rich.segment import Segment

_ORDERS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"} | {
    code: f"\\u{code:04x}" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""Control characters, and those that turn the direction of what follows: shown instead of obeyed."""


@dataclass(frozen=True)
class _Shown:
    """Something to print, with the control characters in its text shown."""

    what: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.what, options):
            if segment.control:
                yield segment
            else:
                yield Segment(segment.text.translate(_ORDERS), segment.style)


class _ShowControlCharacters(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr)
    console.push_render_hook(_ShowControlCharacters())
    return console


out = _console(stderr=False)
err = _console(stderr=True)
