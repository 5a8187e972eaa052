"""The command line: one small file a verb; a verb imports what it needs when it is called, so help starts at once."""

from __future__ import annotations

import os
import sys
import traceback
import warnings

from cyclopts import App, CycloptsError
from rich.markup import escape

from stainglass import __version__
from stainglass.cli.ablate import ablate
from stainglass.cli.align import align
from stainglass.cli.augment import augment
from stainglass.cli.compartments import compartments
from stainglass.cli.components import components
from stainglass.cli.distil import distil
from stainglass.cli.doctor import doctor
from stainglass.cli.embed import embed
from stainglass.cli.evaluate import evaluate
from stainglass.cli.export import export
from stainglass.cli.fetch import fetch
from stainglass.cli.figures import figures
from stainglass.cli.generate import generate
from stainglass.cli.latent import latent
from stainglass.cli.polish import polish
from stainglass.cli.prepare import prepare
from stainglass.cli.report import report
from stainglass.cli.retrieve import retrieve
from stainglass.cli.run import run
from stainglass.cli.select import select
from stainglass.cli.sharpen import sharpen
from stainglass.cli.simulate import simulate
from stainglass.cli.subtypes import subtypes
from stainglass.cli.train import train
from stainglass.errors import StainglassError, StopRequested
from stainglass.progress import console
from stainglass.training.processes import is_first, refuse_several

app = App(
    name="stainglass",
    help="Tissue from transcripts: paint H&E from spatial transcriptomics, and prove that the genes drove the picture.",
    version=__version__,
    help_format="rst",
)

VERBS = (
    *(run, fetch, simulate, prepare, align, train, distil, polish, sharpen, select),
    *(generate, augment, evaluate, report),
    *(embed, retrieve, figures, components, compartments, subtypes, latent, ablate, export, doctor),
)
for verb in VERBS:
    app.command(verb)

USAGE, STOPPED = 2, 130


def main() -> None:
    """Run a verb; a finding of the user's data is one line on stderr and exit code 2, with no traceback unless ``--debug``."""
    tokens = [token for token in sys.argv[1:] if token != "--debug"]
    debug = len(tokens) != len(sys.argv) - 1
    _quiet()
    console.quiet = not is_first()
    try:
        refuse_several(tokens[0] if tokens else "")
        app(tokens, exit_on_error=False, print_error=False)
    except StopRequested as stop:
        console.print(f"[yellow]{stop}[/yellow]", highlight=False, soft_wrap=True)
        sys.exit(STOPPED)
    except KeyboardInterrupt:
        console.print(
            "[yellow]interrupted; what was finished is kept, run the same command again to go on[/yellow]",
            soft_wrap=True,
        )
        sys.exit(STOPPED)
    except (StainglassError, OSError, CycloptsError) as error:
        console.quiet = False  # it may be this process's alone
        if debug:
            traceback.print_exc()
        console.print(f"[bold red]error:[/bold red] {_line(error)}", highlight=False, soft_wrap=True)
        sys.exit(USAGE)


def _line(error: Exception) -> str:
    """One line: file, finding, remedy."""
    if isinstance(error, StainglassError):
        return escape(str(error).replace("\n", " "))
    if isinstance(error, CycloptsError):
        finding = " ".join(str(error).split())
        verb = " ".join(("stainglass", *(error.command_chain or ())))
        return escape(f"{finding}{'' if finding.endswith(('.', '?')) else '.'} See {verb} --help.")
    assert isinstance(error, OSError)
    where = error.filename or "disk"
    remedies = {
        28: "Free some space or choose another --out",
        13: "Check the permissions, or choose another --out",
    }
    remedy = remedies.get(error.errno or 0, "Check the path; --debug shows where it happened")
    return escape(f"{where}: {error.strerror or error}. {remedy}.")


def _quiet() -> None:
    """Libraries' chatter is not the user's: one set of progress bars, no notices about their own future."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for category in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.simplefilter("ignore", category)


if __name__ == "__main__":
    main()
