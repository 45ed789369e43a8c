"""`accelerate launch encoders/run.py`: extract features alone; `--help` lists the options."""

import typer

from training.commands.train import extract_command
from training.launch import become_launcher

if __name__ == "__main__":
    become_launcher()
    typer.run(extract_command)
