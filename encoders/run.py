"""`accelerate launch encoders/run.py`: extract features alone; `--help` lists the options."""

from training.commands.common import launched
from training.commands.train import extract
from training.launch import become_launcher

if __name__ == "__main__":
    become_launcher()
    launched(extract)
