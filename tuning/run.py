"""`accelerate launch tuning/run.py`: search over a run's configuration; `--help` lists the options."""

import typer

from tuning.search.command import tune_command

if __name__ == "__main__":
    typer.run(tune_command)
