"""`accelerate launch encoders/run.py`: extract features alone; `--help` lists the options."""

from training.console import extract, launched
from training.processes import become_launcher

if __name__ == "__main__":
    become_launcher()
    launched(extract)
