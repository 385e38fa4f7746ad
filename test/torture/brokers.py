# SPDX-License-Identifier: MIT
"""Scenarios of the broker: it goes, cleanly or not, for less than a lease and for more, closes what is open, loses a queue, or takes
no messages."""
import signal
import time

from cuts import KINDS, busy, until

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


def alarm(kind):
    """For two leases. Nothing can be published, so beats do not arrive: keepers end their jobs, which begin anew afterwards."""
    on, off = {"memory": ("vm_memory_monitor:set_vm_memory_high_watermark(0.0000001).", "vm_memory_monitor:set_vm_memory_high_watermark(0.4)."),
               "disk": ("rabbit_disk_monitor:set_disk_free_limit(1000000000000000).", "rabbit_disk_monitor:set_disk_free_limit(50000000).")}[kind]

    def play(t, name, seed):
        w = t.world

        def act(f, stream):
            if not busy(w, stream):
                return ["four jobs did not begin"]
            begin = time.time()
            w.services.erl(on)
            try:
                if not until(w.services.in_alarm, 20):
                    return [f"no {kind} alarm was raised"]
                time.sleep(2 * w.lease)
            finally:
                w.services.erl(off)
            if not until(lambda: not w.services.in_alarm(), 20):
                return [f"the {kind} alarm stays"]
            f.broker_was_away(begin, time.time() + RESTARTED, True)
            f.trouble.count[f"{kind} alarm"] = 1
            time.sleep(1)
        t.scenario(name, seed, act, pause=0.3, kinds=KINDS)
    return play


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
}
