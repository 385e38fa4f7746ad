# SPDX-License-Identifier: MIT
"""The network of the hosts: a bridge in the namespace of the run, and for each host a namespace that hangs on it by a pair of veth
devices. No address of it is reachable from outside of the run."""
import os
import subprocess
import time

import tree

SERVER = "10.77.0.1"
NOBODY = "02:00:00:00:00:fe"


def _ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, stdin=subprocess.DEVNULL, capture_output=True, text=True)


class Host:
    """`mode`: how it is cut off now, or None."""

    def __init__(self, name, number):
        self.name, self.address, self.link, self.mode, self.server = name, f"10.77.0.{10 + number}", f"v{number}", None, None
        # Who holds the namespace ends with the run; it says when it is there.
        self._holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE)
        self._holder.stdout.readline()
        self.holder = self._holder.pid
        self.space = f"/proc/{self.holder}/ns/net"
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self._holder.pid))
        _ip("link", "set", self.link, "master", "zr0", "up")
        for words in (("link", "set", "lo", "up"), ("addr", "add", f"{self.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
            self._inside(*words)

    def _inside(self, *words, check=True):
        subprocess.run([*self.within(), "ip", *words], check=check, stdin=subprocess.DEVNULL, capture_output=True)

    def within(self):
        """The words before a command that runs on this host."""
        return ["/usr/bin/nsenter", f"--net={self.space}"]

    def has(self, process):
        """Does it run here? A sandbox has a network of its own: that of who has started it tells."""
        while process:
            try:
                if os.path.samefile(f"/proc/{process.pid}/ns/net", self.space):
                    return True
            except OSError:
                pass
            process = tree.parent(process) if process.elsewhere else None
        return False

    # --- how it is cut off ---

    MODES = ("down", "silent", "deaf", "mute")

    def cut(self, mode):
        """down: no carrier. silent: packets vanish both ways. deaf, mute: those to it, those from it."""
        self.mode = mode
        if mode == "down":
            _ip("link", "set", self.link, "down")
        elif mode == "silent":
            _ip("link", "set", self.link, "nomaster")
        elif mode == "deaf":
            _ip("neigh", "replace", self.address, "lladdr", NOBODY, "dev", "zr0", "nud", "permanent")
        else:
            self._inside("neigh", "replace", SERVER, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")

    def join(self):
        if self.mode == "down":
            _ip("link", "set", self.link, "up")
        elif self.mode == "silent":
            _ip("link", "set", self.link, "master", "zr0")
        elif self.mode == "deaf":
            _ip("neigh", "del", self.address, "dev", "zr0", check=False)
        elif self.mode == "mute":
            self._inside("neigh", "del", SERVER, "dev", "eth0", check=False)
        self.mode = None

    def cut_for(self, mode, seconds):
        self.cut(mode)
        try:
            time.sleep(seconds)
        finally:
            self.join()

    def rate(self, text):
        """What leaves it is no faster ("8mbit"); None: as fast as it can."""
        self._inside("link", "set", "eth0", "mtu", "1500")
        words = ["tc", "qdisc", "replace" if text else "del", "dev", "eth0", "root"]
        if text:
            words += ["tbf", "rate", text, "burst", "32kb", "latency", "200ms"]
        subprocess.run([*self.within(), *words], check=bool(text), stdin=subprocess.DEVNULL, capture_output=True)

    # --- its SSH server ---

    def sshd(self, config, port, log):
        """A server of its own, at its own address."""
        with open(log, "ab") as out:
            self.server = subprocess.Popen([*self.within(), "/usr/sbin/sshd", "-D", "-e", "-f", config, "-o",
                                            f"ListenAddress={self.address}:{port}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                           start_new_session=True)
        self._sshd = (config, port, log)

    def mind(self):
        """Starts the server again if it has ended."""
        if self.server.poll() is not None:
            self.sshd(*self._sshd)

    def close(self):
        for process in (self.server, self._holder):
            if process:
                process.kill()
                process.wait()
        self._holder.stdout.close()


class Network:
    """`hosts`: where evaluations run; `api`: where the database is written, too."""

    def __init__(self, names, api=()):
        # An address of its own: else it has that of a host's link, which would go on hearing when it has left the bridge.
        _ip("link", "add", "zr0", "address", "02:00:00:00:00:01", "type", "bridge")
        _ip("addr", "add", f"{SERVER}/24", "dev", "zr0")
        _ip("link", "set", "zr0", "up")
        made = {name: Host(name, i) for i, name in enumerate((*names, *api), 1)}
        self.hosts, self.api = {n: made[n] for n in names}, {n: made[n] for n in api}

    def all(self):
        return [*self.hosts.values(), *self.api.values()]

    def join(self):
        for host in self.all():
            host.join()

    def close(self):
        for host in self.all():
            host.close()
