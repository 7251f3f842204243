"""The command line: each verb parses, makes one call of the library, and prints."""

from __future__ import annotations

import typer

from analyzer.cli import calls, models, outcomes, raters, show
from analyzer.errors import AnalyzerError

HELP = """Rate every call of a contact centre for courtesy, resolution and closing mood, with the words that show it,
and link the ratings to what customers did later."""

app = typer.Typer(
    help=HELP,
    context_settings={"max_content_width": 110},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for module in (calls, outcomes, raters, models):
    module.register(app)


def main() -> None:
    """Run a verb. Exit status: 0 all done, 1 some calls failed, 2 the run could not be done as asked, 130 interrupted."""
    try:
        app()
    except AnalyzerError as error:
        show.note(show.clean(f"error: {error}"))
        raise SystemExit(2) from None
