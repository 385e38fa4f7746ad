# SPDX-License-Identifier: MIT
"""Scenarios of SSH: the way to a host's server is cut at each place of the conversation, or is hardly a way."""
from cuts import until
from proxy import Proxy


def stored(w, ident):
    return w.query("select 1 from attempt where evaluation = %s and results_state = 'stored'", ident)


def places(ends):
    """Where to cut, from where the server's answers to a whole conversation ended: in and after each of the first (banner, keys, login,
    channel, open), in the middle of the file, at its end, before the last byte."""
    first, last = ends[:16], ends[-1]
    inside = [a + (b - a) // 2 for a, b in zip([0, *first], first)]
    return sorted({1, *inside, *first, *(last * n // 5 for n in range(1, 5)), ends[-2], last - 1} - {0, last})


def cut_everywhere(t, name, seed):
    """One connection is cut at each place, the one after it gets through."""
    w, ends, todo, recording = t.world, [], [], True

    def judge(c, data):
        if recording:
            ends.append(c.sent + len(data))
            return None
        if not hasattr(c, "place"):
            c.place = todo.pop() if todo else None
        return None if c.place is None or c.sent + len(data) <= c.place else max(0, c.place - c.sent)

    def collected(stream, kind):
        ident = stream.submit(kind)
        return until(lambda: stored(w, ident), 30)

    def act(f, stream):
        nonlocal recording
        if not collected(stream, "noise"):
            return ["the first result was not collected"]
        recording = False
        for place in places(ends):
            # The connection that is still open is no part of it.
            proxy.hang_up()
            todo.append(place)
            if not collected(stream, "quick" if place < ends[15] else "noise"):
                return [f"cut at {place} of {ends[-1]} bytes: the result was not collected"]
            if todo:
                return [f"there was no connection to cut at {place}"]
        f.trouble.count["connections cut"] = proxy.cuts
        t.say(f"     {proxy.cuts} connections cut, at {len(places(ends))} places of {ends[-1]} bytes")
        return []

    with Proxy(w.ssh_of("h1"), judge) as proxy, w.way_to("h1", proxy.port):
        t.scenario(name, seed, act, pause=3600, only=("h1",))


def trickle(t, name, seed):
    """A kilobyte a second is no transfer: the connection is ended, and another one tried."""
    w = t.world
    with Proxy(w.ssh_of("h1"), lambda *_: None) as proxy, w.way_to("h1", proxy.port):
        def act(f, stream):
            proxy.rate = 1000
            idents = [stream.submit("noise") for _ in range(2)]
            if not until(lambda: proxy.connections >= 3, 90):
                return [f"after 90 s there were {proxy.connections} connections, so none was ended"]
            f.trouble.count["trickle"] = 1
            proxy.rate = None
            proxy.hang_up()
            return [] if until(lambda: all(stored(w, i) for i in idents), 60) else ["not all results were collected"]
        t.scenario(name, seed, act, pause=3600, only=("h1",))


SCENARIOS = {"ssh/cut": cut_everywhere, "ssh/trickle": trickle}
