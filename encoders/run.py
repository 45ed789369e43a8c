"""`accelerate launch encoders/run.py`: extract features alone; `--help` lists the options."""

import typer

from training.command import extract_command

if __name__ == "__main__":
    typer.run(extract_command)
