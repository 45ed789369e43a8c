"""`accelerate launch training/run.py`: train, evaluate and report; `--help` lists the options."""

from training.commands.common import launched
from training.commands.train import train
from training.launch import become_launcher

if __name__ == "__main__":
    become_launcher()
    launched(train)
