"""
The options of the client that say when messages are sent, and for how long.
"""

from echofactory.cli.options import Flag, Option
from echofactory.cli.parsers import parseArrivals, parseDuration, parseGoals, parseRates

SCHEDULE_OPTIONS = (
    Option(
        "duration",
        "DURATION",
        parseDuration,
        None,
        "Time to send for, instead of --count. It does not include --warm-up.",
        example="10s",
    ),
    Option(
        "warm-up",
        "DURATION",
        parseDuration,
        None,
        "Time to send before --duration begins. Messages are verified, but do not count in"
        " latencies and rates. With --rate, they are sent at its first rate.",
        defaultHelp="0; 1s with --find-rate",
        example="5s",
    ),
    Option(
        "rate",
        "RATE",
        parseRates,
        None,
        "Messages per second over all connections, sent on schedule even if replies are"
        " late (open loop). Give --duration or --count too. 1k..20k rises evenly from 1,000"
        " to 20,000. Stages have their own durations and are joined with commas:"
        " 500:10s,500..5k:1m,5k:30s.",
        defaultHelp="a message is sent when --window has room (closed loop)",
        example="20k",
    ),
    Option(
        "arrivals",
        "even|poisson|poisson:SEED",
        parseArrivals,
        None,
        "Gaps between the messages of --rate. poisson: random and independent, as those of"
        " many users; their mean follows the rate. The same seed reproduces the same gaps.",
        defaultHelp="even",
        example="poisson",
    ),
    Option(
        "find-rate",
        "GOALS",
        parseGoals,
        None,
        "Find the highest rate at which the response times keep these goals, no"
        " connection fails, and at least 95 % of the messages come back in time. Several goals"
        " are joined with commas: p50<300us,max<1s. The"
        " search begins at --rate (500 per second if not given), and goes down to 1. It tries"
        " each rate for --duration (5s if not given) after --warm-up.",
        example="'p99<5ms'",
    ),
)

RECONNECT = Flag(
    "reconnect",
    "Open a connection that has failed again, after a pause of 0.2 s to 10 s that grows"
    " with each failure. Needs --duration or --rate.",
)
