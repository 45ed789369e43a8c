"""`accelerate launch training/run.py`: train, evaluate and report; `--help` lists the options."""

import typer

from training.command import train_command

if __name__ == "__main__":
    typer.run(train_command)
