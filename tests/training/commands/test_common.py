"""How commands end: one sentence, and an exit status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from mmpsr.errors import Interrupted, UserError
from training.commands.common import Remarks, guarded, launched, out_console


def ended(make: Callable[[], int | None], *guard: object) -> Result:
    """What a command does that only calls `make`."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @guarded(*guard)  # type: ignore[arg-type]
    def command(number: int = 0) -> int | None:
        return make()

    return CliRunner().invoke(app, ["--number", "3"])


def raises(error: BaseException) -> Callable[[], int]:
    def raise_it() -> int:
        raise error

    return raise_it


@pytest.mark.parametrize("status", [None, 0, 1, 7])
def test_what_is_returned_is_the_status(status: int | None) -> None:
    assert ended(lambda: status).exit_code == (status or 0)


class OwnError(UserError):
    """As every package has."""


@pytest.mark.parametrize("error", [UserError("a.csv, row 3: [no] number"), OwnError("a.csv, row 3: [no] number")])
def test_an_error_of_the_users_is_one_sentence(error: UserError) -> None:
    result = ended(raises(error))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "error: a.csv, row 3: [no] number\n")


def test_a_missing_package_names_its_extra() -> None:
    result = ended(raises(ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib.figure")))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith('error: matplotlib is not installed; the extra "report", with which charts')


@pytest.mark.parametrize(
    "error", [ValueError("a defect"), RuntimeError("of ours"), ModuleNotFoundError("none", name="nobody_has_this")]
)
def test_defects_keep_their_traceback(error: Exception) -> None:
    assert ended(raises(error)).exception is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort(), Interrupted()])
def test_ctrl_c_says_what_is_kept(error: BaseException) -> None:
    result = ended(raises(error), "stopped; all is kept")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "stopped; all is kept\n")
    result = ended(raises(error), "stopped; all is kept", out_console)
    assert (result.exit_code, result.stdout, result.stderr) == (130, "stopped; all is kept\n", "")
    assert ended(raises(error)).stderr == "stopped; the same command begins again\n"


def test_where_work_stopped_it_says_so_itself() -> None:
    result = ended(raises(Interrupted("stopped after step 5")), "stopped; all is kept")
    assert (result.exit_code, result.stderr) == (130, "stopped after step 5\n")


def test_a_launched_command_ends_the_same_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @guarded()
    def command(number: int = 0) -> None:
        raise UserError(f"found {number}")

    monkeypatch.setattr("sys.argv", ["run.py", "--number", "3"])
    with pytest.raises(SystemExit) as end:
        launched(command)
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: found 3\n"


def test_remarks_are_said_by_how_much_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for options, expected in (
        ({}, ["reading [a]", "b is lost"]),
        ({"quiet": True}, ["b is lost"]),
        ({"verbose": True}, ["reading [a]", "a detail", "b is lost"]),
    ):
        remarks = Remarks(**options)
        remarks.info("reading [a]")
        remarks.debug("a detail")
        remarks.warning("b is lost")
        assert capsys.readouterr().err.splitlines() == expected


def test_a_log_has_all_that_was_said_and_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "work" / "predict.log"
    remarks = Remarks(quiet=True)
    remarks.info("before")
    with remarks.kept_in(log):
        remarks.debug("within")
    remarks.info("after")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines] == ["INFO    before", "DEBUG   within"]
    for error in (UserError("no such file"), ZeroDivisionError("division by zero")):
        with pytest.raises(type(error)), Remarks(quiet=True).kept_in(log):
            raise error
    text = log.read_text(encoding="utf-8")
    assert text.splitlines()[: len(lines)] == lines  # a repeated command adds to it
    assert "ended by UserError: no such file\n" in text
    assert text.count("Traceback") == 1
    assert text.rstrip().endswith("ZeroDivisionError: division by zero")
    assert capsys.readouterr().err == ""
