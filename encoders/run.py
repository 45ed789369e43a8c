"""`accelerate launch encoders/run.py`: extract features alone; `--help` lists the options."""

from training.commands.console import extract, launched
from training.launch import become_launcher

if __name__ == "__main__":
    become_launcher()
    launched(extract)
