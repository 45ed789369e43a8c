"""`accelerate launch training/run.py`: train, evaluate and report; `--help` lists the options."""

import typer

from training.commands.train import train_command
from training.launch import become_launcher

if __name__ == "__main__":
    become_launcher()
    typer.run(train_command)
