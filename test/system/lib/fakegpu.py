# SPDX-License-Identifier: MIT
"""Fake GPUs: test/fake/libcuda built into a folder of the test's own, with its scenario beside it."""
import os
import shutil
import subprocess

from .services import ROOT

SOURCE = os.path.join(ROOT, "test/fake/libcuda/libcuda.c")


def uuid(n, kind="GPU"):
    return f"{kind}-{n:08x}-1111-2222-3333-444444444444"


class FakeGpus:
    def __init__(self, folder):
        self.dir = str(folder)
        os.makedirs(self.dir, mode=0o755)
        self.library = os.path.join(self.dir, "libcuda.so.1")
        subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
                        "-fvisibility=hidden", SOURCE, "-o", self.library], check=True)
        shutil.copy(self.library, os.path.join(self.dir, "libnvidia-ml.so.1"))
        for name in os.listdir(self.dir):
            os.chmod(os.path.join(self.dir, name), 0o755)
        self.scenario([])

    def scenario(self, gpus, **keys):
        """`gpus`: dicts of what a gpu line has; a list of numbers is that many H100 with these UUIDs."""
        lines = [f"{k} {v}" for k, v in keys.items()]
        for i, g in enumerate(gpus):
            g = {"uuid": uuid(g)} if isinstance(g, int) else g
            g = {"name": "H100_PCIe", "cc": "9.0", "total": 81920, "pci": f"0000:{i + 1:02x}:00.0", "minor": i, **g}
            lines.append("gpu " + " ".join(f"{k}={v}" for k, v in g.items()))
        path = os.path.join(self.dir, "scenario")
        with open(path + ".new", "w") as f:
            f.write("\n".join(lines) + "\n")
        os.rename(path + ".new", path)
