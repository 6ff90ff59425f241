"""The clock, the log and the checkpoints of a training run, which may be cut off and go on from its last checkpoint."""

import json
import os
import time

import numpy as np
import torch
import torch.distributed as dist

import parallel

LINE = 25  # steps a printed line speaks of
EVALUATE = 240  # seconds between evaluations
SAVE = 120  # seconds between checkpoints


def over(path, minutes):
    """Whether the run whose checkpoint lies at path has had its minutes: one more step would make stale what was made from it."""
    return os.path.exists(path) and torch.load(path, weights_only=False)["spent"] >= minutes * 60


class Session:
    """Steps of one worker. The learning rate follows progress, which goes from 0 to 1 in the minutes given."""

    def __init__(self, rank, path, minutes):
        self.path, self.minutes, self.chief = path, minutes, rank == 0
        self.step, self.before, self.log = 0, 0.0, []

    def restore(self):
        """The state last saved, None if there is none; goes on where that ended."""
        if not os.path.exists(self.path):
            return None
        s = torch.load(self.path, weights_only=False)
        self.step, self.before, self.log = s["step"], s["spent"], s["log"]
        return s

    def begin(self):
        self.clock = torch.zeros(1, dtype=torch.float64)
        self.losses = []
        self.start = self.last = self.saved = self.evaluated = time.time()

    def tick(self):
        """Progress at the beginning of a step. The first worker's clock decides, so that all leave together."""
        self.clock[0] = self.before + time.time() - self.start
        dist.broadcast(self.clock, 0)
        self.spent = self.clock.item()
        self.progress = self.spent / (self.minutes * 60)
        self.done = self.progress >= 1
        return self.progress

    def tock(self, losses, line, figures, state, early=()):
        """Ends a step: reports, evaluates and saves when it is time to; true after the last step.

        losses of the step; line(means) describes those of the last steps, figures() evaluates, state() is what to save. Steps in
        early are evaluated out of turn.
        """
        self.step += 1
        if self.chief:
            self.losses.append(losses)
            if self.step % LINE == 0:
                pace = (time.time() - self.last) / LINE
                print(
                    f"step {self.step} {line(np.sum(self.losses, 0) / LINE)} {pace:.3f} s/step {self.spent / 60:.1f} min",
                    flush=True,
                )
                self.losses = []
                self.last = time.time()
            if time.time() - self.evaluated > EVALUATE or self.done or self.step in early:
                self.log.append({"step": self.step, "minutes": round(self.spent / 60, 1), **figures()})
                print("val", json.dumps(self.log[-1]), flush=True)
                self.evaluated = self.last = time.time()
            if time.time() - self.saved > SAVE or self.done:
                parallel.save(self.path, {**state(), "step": self.step, "spent": self.spent, "log": self.log})
                self.saved = time.time()
        return self.done
