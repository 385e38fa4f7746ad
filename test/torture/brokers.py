# SPDX-License-Identifier: MIT
"""Scenarios of the broker: it goes, cleanly or not, for less than a lease and for more, closes what is open, loses a queue, or takes
no messages."""
import contextlib
import os
import signal
import time

import pika

from cuts import KINDS, busy, until

SLOTS = 4  # of a host
RESTARTED = 4  # seconds until all are connected again to a broker that answers


def away(how, lease, seconds, costs):
    """costs: whether a lease may run out."""
    def play(t, name, seed):
        def act(f, stream):
            if not busy(t.world, stream):
                return ["four jobs did not begin"]
            begin = time.time()
            t.world.services.dev(how, "rabbitmq")
            time.sleep(seconds)
            t.world.services.dev("start", "rabbitmq")
            f.broker_was_away(begin, time.time() + RESTARTED, costs)
            f.trouble.count[f"broker {how}"] = 1
            time.sleep(1)
        t.scenario(name, seed, act, lease=lease, pause=0.3, kinds=KINDS)
    return play


def connections(t, name, seed):
    """Closed by the broker again and again, as soon as they are back."""
    def act(f, _stream):
        for i in range(12):
            begin = time.time()
            t.world.services.erl('[catch rabbit_networking:close_connection(P, "torture") || P <- rabbit_networking:connections()].')
            f.broker_was_away(begin, time.time() + 1, costs=False)
            f.trouble.count["connections closed"] = i + 1
            time.sleep(f.random.uniform(0.3, 1.5))
    # With a lease that no such pause can cost.
    t.scenario(name, seed, act, lease=30, pause=0.2)


ALARMS = {"memory": ("vm_memory_monitor:set_vm_memory_high_watermark(0.0000001).", "vm_memory_monitor:set_vm_memory_high_watermark(0.4)."),
          "disk": ("rabbit_disk_monitor:set_disk_free_limit(1000000000000000).", "rabbit_disk_monitor:set_disk_free_limit(50000000).")}


@contextlib.contextmanager
def in_alarm(w, f, kind, costs):
    begin = time.time()
    w.services.erl(ALARMS[kind][0])
    try:
        assert until(w.services.in_alarm, 20), f"no {kind} alarm was raised"
        yield
    finally:
        w.services.erl(ALARMS[kind][1])
    assert until(lambda: not w.services.in_alarm(), 20), f"the {kind} alarm stays"
    f.broker_was_away(begin, time.time() + RESTARTED, costs)
    f.trouble.count[f"{kind} alarm"] = 1


def alarm(kind):
    """For two leases. Nothing can be published, so beats do not arrive: keepers end their jobs, which begin anew afterwards."""
    def play(t, name, seed):
        def act(f, stream):
            if not busy(t.world, stream):
                return ["four jobs did not begin"]
            with in_alarm(t.world, f, kind, True):
                time.sleep(2 * t.world.lease)
            time.sleep(1)
            return []
        t.scenario(name, seed, act, pause=0.3, kinds=KINDS)
    return play


def resident(p):
    with open(f"/proc/{p.pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


def used(folder):
    """Bytes on disk."""
    total = 0
    for top, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(top, name)).st_blocks * 512
    return total


def log(t, name, seed):
    """A job writes 10 GiB while nothing can be published. It is not held up, memory and disk stay small, head and tail are kept."""
    w = t.world

    def sizes():
        """Keepers and workers, state folders."""
        found = []
        for p in (p for role in ("keeper", "worker") for p in w.processes(role)):
            with contextlib.suppress(OSError):
                found.append(resident(p))
        return max(found), sum(used(os.path.join(w.site.dir, "hosts", h)) for h in ("h1", "h2"))

    def act(f, stream):
        ident = stream.submit("pour")
        if not until(lambda: w.marks_read(), 20):
            return ["it did not begin"]
        small, disk, most = *sizes(), [0, 0]
        with in_alarm(w, f, "memory", False):
            if not until(lambda: [p for p in w.processes("job") if p.exe == "yes"], 20):
                return ["it does not write"]
            begin = time.time()
            while w.processes("job"):
                most = [max(pair) for pair in zip(most, sizes())]
                time.sleep(0.05)
            wrote = time.time() - begin
            time.sleep(1)
            if w.query("select state from evaluation where id = %s", ident) != [("running",)]:
                return ["something was published"]
        begin = time.time()
        if not until(lambda: w.query("select state from evaluation where id = %s", ident) == [("completed",)], 30):
            return ["it did not end after the alarm"]
        t.say(f"     10 GiB of log in {wrote:.1f} s, the end {time.time() - begin:.1f} s after the alarm; the largest process of zr had "
              f"{small / 1048576:.1f} MiB before and {most[0] / 1048576:.1f} at most, the disk {(most[1] - disk) / 1048576:.1f} MiB more")
        return ([f"a process has {most[0]} bytes"] if most[0] > small + (8 << 20) else []) + \
            ([f"{most[1] - disk} bytes of disk"] if most[1] - disk > 8 << 20 else [])
    t.scenario(name, seed, act, lease=120, pause=3600)


def consumer_timeout(t, name, seed):
    """Of a minute, and jobs of more than two, as many again behind them. The broker ends the channel of a consumer that holds a
    delivery for as long; nobody of ours does."""
    w, conf = t.world, os.path.join(t.world.services.dir, "rabbitmq/conf.d")

    def restart():
        w.services.stop("rabbitmq")
        w.services.start("rabbitmq")

    def act(f, stream):
        with contextlib.closing(w.site.amqp(heartbeat=0)) as connection:
            return watched(stream, f, connection.channel())

    def watched(stream, f, channel):
        before = len(w.services.log("rabbitmq"))
        channel.queue_declare("held", exclusive=True)
        channel.basic_publish("", "held", b"x")
        until(lambda: channel.basic_get("held")[0], 10)
        idents = [stream.submit("aged") for _ in range(2 * SLOTS)]

        def over():
            with contextlib.suppress(pika.exceptions.AMQPError):
                channel.connection.process_data_events(0)
            return w.query("select count(*) from evaluation where step = 4 and id = any(%s)", idents) == [(len(idents),)]
        if not until(over, 400):
            return ["they did not end"]
        f.trouble.count["runs longer than the timeout"] = len(idents)
        closed = w.services.log("rabbitmq")[before:].count("Timeout value used: 60000 ms")
        t.say(f"     {closed} channels were closed by the timeout")
        return ([] if channel.is_closed and closed == 1 else
                [f"{closed} channels were closed by the timeout, that of who held a delivery {'too' if channel.is_closed else 'not'}"])

    os.makedirs(conf, exist_ok=True)
    path = os.path.join(conf, "10-timeout.conf")
    with open(path, "w") as out:
        out.write("consumer_timeout = 60000\n")
    try:
        restart()
        t.scenario(name, seed, act, lease=60, pause=3, kinds={"quick": 1}, only=("h1",))
    finally:
        os.unlink(path)
        restart()


def queue_deleted(t, name, seed):
    """With the requests in it, and made again a while later. Consumers are there within five seconds, the requests are sent again."""
    w = t.world

    def act(f, _stream):
        if not until(lambda: w.processes("job"), 20):
            return ["four jobs did not begin"]
        for _ in range(2):
            begin = time.time()
            w.services.erl('{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"sb.torture">>, queue, <<"zr.eval.default">>)), '
                           'rabbit_amqqueue:delete(Q, false, false, <<"torture">>).')
            f.trouble.count["queue deleted"] = f.trouble.count.get("queue deleted", 0) + 1
            time.sleep(2)
            w.site.zr("topology:apply")
            made = time.time()
            # A request that was handed out and not acknowledged is sent again, though it may have been claimed.
            f.broker_was_away(begin, made + 5, False)
            f.trouble.senders += [begin + i for i in range(int(made - begin) + 3 * w.lease)]
            if not until(lambda: any(r[3] > made for r in w.marks_read()), 5):
                return ["5 s after the queue was made again nothing has begun"]
        return []
    t.scenario(name, seed, act, pause=0.2)


def update_queue_deleted(t, name, seed):
    """With all that was said while zr-update was away, and made again: what was confirmed was done, and is not done again."""
    w = t.world

    def said():
        connection = w.site.amqp()
        try:
            return connection.channel().queue_declare("zr.update", passive=True).method.message_count
        finally:
            connection.close()

    def act(f, stream):
        if not busy(w, stream):
            return ["four jobs did not begin"]
        w.off.add("update")
        w.daemons["update"].signal(signal.SIGTERM)
        if not until(lambda: not w.daemons["update"].alive(), 20):
            return ["zr-update does not end"]
        # Some of these began before it went, of others nothing is known to the database.
        ran = len(w.marks_read())
        if not until(lambda: len(w.marks_read()) >= ran + 12, 30):
            return ["nothing ran without zr-update"]
        lost = said()
        w.services.erl('{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"sb.torture">>, queue, <<"zr.update">>)), '
                       'rabbit_amqqueue:delete(Q, false, false, <<"torture">>).')
        # To the stream of events they go on, and are confirmed.
        time.sleep(2)
        w.site.zr("topology:apply")
        f.trouble.count["zr.update deleted"] = 1
        w.off.discard("update")
        t.say(f"     {lost} messages were deleted with zr.update")
        return []
    t.scenario(name, seed, act, pause=0.15, kinds=KINDS)


SCENARIOS = {
    "broker/update-queue": update_queue_deleted,
    "broker/stop": away("stop", 30, 2, False),
    "broker/crash": away("kill", 30, 2, False),
    "broker/stop-2-leases": away("stop", 4, 8, True),
    "broker/crash-2-leases": away("kill", 4, 8, True),
    "broker/connections": connections,
    "broker/memory-alarm": alarm("memory"),
    "broker/disk-alarm": alarm("disk"),
    "broker/queue-deleted": queue_deleted,
    "broker/log": log,
    "broker/consumer-timeout": consumer_timeout,
}
