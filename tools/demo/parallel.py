"""Two workers of one thread each that train on half a batch and average their gradients.

On two cores this is 1.4 times as fast as one process of two threads, whose threads wait for each other in every operator,
and far less upset by other processes.
"""

import ctypes
import os
import signal

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORKERS = 2
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def spawn(worker, a):
    """Runs worker(rank, a) in every process; a.work is the working folder."""
    a.work = os.path.abspath(a.work)
    if os.path.exists(f"{a.work}/rendezvous"):
        os.remove(f"{a.work}/rendezvous")
    mp.spawn(worker, (a,), nprocs=WORKERS)


def join(rank, work):
    # A worker whose parent is ended would train on, and write the checkpoint of the run that comes after it. PyTorch asks for
    # SIGINT, which children of a script's background job ignore.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{work}/rendezvous", rank=rank, world_size=WORKERS)


def leave():
    dist.barrier()
    dist.destroy_process_group()


def gather(x):
    """The rows of all workers."""
    parts = [torch.empty_like(x) for _ in range(WORKERS)]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def average_gradients(params):
    flat = torch.cat([q.grad.flatten() for q in params])
    dist.all_reduce(flat)
    flat /= WORKERS
    for q, g in zip(params, flat.split([q.numel() for q in params])):
        q.grad.copy_(g.view_as(q))


def save(path, state):
    """Replaces the checkpoint at once: a run that is cut off leaves the last one whole."""
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)
