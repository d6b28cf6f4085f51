"""All benchmarks: how they measure, how much of it, and what the figures should be."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.aims import Aim


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One module of this package, run as a program."""

    name: str
    method: str
    """In a sentence, for the reader of its figures."""
    full: tuple[int, ...]
    """Its arguments; see the module."""
    quick: tuple[int, ...]
    """Its arguments when a first impression is enough."""
    aims: tuple[Aim, ...]


SUITE = (
    Benchmark(
        "announcing",
        "MQTT publish (QoS 1) to the first frame at a simulated ALSA card; all contestants are up "
        "and take turns in every round. The service behind the streamed ones sends its first sound "
        "after 50 ms and then five times as fast as it is played.",
        full=(36,),
        quick=(5,),
        aims=(
            Aim("publish → first PCM, cached: median", "cached.median_ms", unit="ms"),
            Aim("… p99", "cached.p99_ms", unit="ms"),
            Aim("… median, in those of the tuned script", "median_of_tuned", 2.0, "x"),
            Aim("… p99, in those of the tuned script", "p99_of_tuned", 3.0, "x"),
            Aim(
                "… sooner than `mosquitto_sub` into `aplay` of a ready WAV",
                "faster_than_aplay",
                5.0,
                "x",
                at_least=True,
            ),
            Aim("publish → first PCM, streamed: median", "streamed.median_ms", unit="ms"),
            Aim(
                "… beyond the service's own time to first audio",
                "streamed_beyond_service_ms",
                5.0,
                "ms",
            ),
        ),
    ),
    Benchmark(
        "slow_disk",
        "The cached phrase while a library in front of libc makes every fsync of the bridge slow, "
        "one being under way in each round. Unchanged: within the spread (middle half) of the "
        "rounds with a quick disk.",
        full=(12,),
        quick=(3,),
        aims=(
            Aim("cached, every fsync 50 ms: added", "fsync_50_ms.added_ms", "spread_ms", "ms"),
            Aim("cached, every fsync 2 s: added", "fsync_2000_ms.added_ms", "spread_ms", "ms"),
            Aim(
                "… rounds that met an fsync, of {fsync_2000_ms[rounds]}",
                "fsync_2000_ms.rounds_during_fsync",
                "fsync_2000_ms.rounds",
                at_least=True,
            ),
        ),
    ),
    Benchmark(
        "streamed",
        "A service that stamps when it hands its first frame (0.2 s of sound) to the socket, after "
        "three answers have shown its pace; and, in one process, from asking the client for speech "
        "to the request being in the kernel.",
        full=(60,),
        quick=(10,),
        aims=(
            Aim(
                "first audio frame readable → first PCM: median",
                "first_frame_to_first_pcm.median_ms",
                1.0,
                "ms",
            ),
            Aim("… p99", "first_frame_to_first_pcm.p99_ms", 3.0, "ms"),
            Aim("request on the warm socket: median", "request_to_socket.median_ms", 0.2, "ms"),
        ),
    ),
    Benchmark(
        "start",
        "From the start of the process to `ready` in its log, with a broker and without a cloud; "
        "then the kernel's counts of a daemon left alone after three announcements. Imports: own "
        "time by `-X importtime`, which adds some; settings are read by a child meanwhile.",
        full=(15, 60),
        quick=(5, 15),
        aims=(
            Aim("process start → ready: median", "to_ready.median_ms", 250.0, "ms"),
            Aim("… least of {to_ready[rounds]}", "to_ready.least_ms", unit="ms"),
            Aim("… processor time of the daemon", "cpu_to_ready.median_ms", unit="ms"),
            Aim("Python alone: median", "python_alone.to_end.median_ms", unit="ms"),
            Aim("resident, idle", "idle.rss_mb", 40.0, "MB"),
            Aim("wake-ups, idle", "idle.wakeups_per_s", 1.0, "/s"),
            Aim("processor, idle", "idle.cpu_ms_per_s", 0.1, "ms/s"),
        ),
    ),
    Benchmark(
        "disk",
        "The kernel's count of bytes given to the device, over whole lives of the daemon on a real "
        "file system, less those of a life that said nothing; the file system's journal is not in "
        "it.",
        full=(20,),
        quick=(4,),
        aims=(
            Aim("written for a cached announcement", "cached_bytes", 0.0, "bytes"),
            Aim("… its share of the counts kept at the end", "cached_later_bytes", unit="bytes"),
            Aim("written for a new phrase, of its sound", "new_of_stored", 1.35, "x"),
            Aim("written for a start and an end", "silent_life_bytes", unit="bytes"),
        ),
    ),
    Benchmark(
        "burst",
        "Announcements at QoS 1 as fast as the broker takes them, at a paused bridge that is asked "
        "to stop ten times a second. Each has arrived when a wiretap hands it to the bridge's "
        "socket, and is durable when somebody who reads the queue file every 10 ms finds it; "
        "afterwards the queue on disk is compared with what was sent.",
        full=(10_000,),
        quick=(3_000,),
        aims=(
            Aim(
                "{count:,} at once: durable after arrival, at most",
                "durable_after.most_ms",
                1000.0,
                "ms",
            ),
            Aim("… median", "durable_after.median_ms", unit="ms"),
            Aim("… acknowledged after arrival, at most", "acknowledged_after.most_ms", unit="ms"),
            Aim("… events given up", "events_dropped", 0.0),
            Aim("… lost", "lost", 0.0),
            Aim("… twice", "twice", 0.0),
            Aim("… out of order", "out_of_order", 0.0),
            Aim("… `stop` answered meanwhile: worst", "stop.most_ms", 200.0, "ms"),
            Aim("… `stop` answered meanwhile: median", "stop.median_ms", unit="ms"),
            Aim("… all durable after", "durable_s", unit="s"),
            Aim("… resident before", "resident_before_mb", unit="MB"),
            Aim("… resident, most", "resident_most_mb", unit="MB"),
        ),
    ),
    Benchmark(
        "huge",
        "One message that is far too large, at a daemon on MQTT 5; the most memory it had since.",
        full=(100,),
        quick=(100,),
        aims=(
            Aim("a publish of {megabytes} MB: memory grows by", "growth_mb", 5.0, "MB"),
            Aim("… announcements afterwards unheard", "silent_afterwards", 0.0),
        ),
    ),
    Benchmark(
        "speech_cpu",
        "The kernel's count of processor time of the daemon for each second of speech; the shares "
        "are own time in a profile of the event loop's thread, with a silent sink.",
        full=(5, 3),
        quick=(3, 1),
        aims=(
            Aim("processor for a second of speech, streamed", "cloud_ms_per_s", unit="ms"),
            Aim("… the three largest costs (%)", "largest_percent_streamed"),
            Aim("processor for a second of speech, cached", "cache_ms_per_s", unit="ms"),
            Aim("… the three largest costs (%)", "largest_percent_cached"),
        ),
    ),
    Benchmark(
        "gateway",
        "`kugel-bridge gateway` in a process of its own; behind it our own server with an engine "
        "that hums. Request to first audio frame at a client on this machine, one after the other; "
        "the load is 20 phrases in real time, each heard on ten sockets for 10 s.",
        full=(100,),
        quick=(20,),
        aims=(
            Aim("gateway, local engine: first audio, median", "local.median_ms", 25.0, "ms"),
            Aim("gateway, cached: first audio, median", "cached.median_ms", 5.0, "ms"),
            Aim("gateway, new phrase: added to the service", "added_ms", 3.0, "ms"),
            Aim(
                "{load[sockets]} sockets in real time: latest of {load[frames]:,} frames",
                "load.late.most_ms",
                200.0,
                "ms late",
            ),
            Aim("… p99", "load.late.p99_ms", unit="ms late"),
            Aim("… resident, most", "load.most_mb", 150.0, "MB"),
            Aim(
                "{flight[bridges]} bridges, one new phrase: requests to the service",
                "flight.requests_to_the_service",
                1.0,
            ),
        ),
    ),
    Benchmark(
        "speech",
        "The parts by themselves, in one process.",
        full=(100,),
        quick=(30,),
        aims=(
            Aim("cache: lookup to first chunk (200 KB): median", "hit.median_ms", unit="ms"),
            Aim("cache: lookup that misses: median", "miss.median_ms", unit="ms"),
            Aim("espeak-ng as a child: first chunk, median", "child.median_ms", unit="ms"),
            Aim("espeak-ng as a library: first chunk, median", "library.median_ms", unit="ms"),
            Aim("cleaning a text with markup: median", "cleaning.median_ms", unit="ms"),
        ),
    ),
)
