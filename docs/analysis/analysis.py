# %% [markdown]
# # A week of readings
#
# Cells begin with `# %%`: open this file as a notebook in VS Code, PyCharm or Jupyter (with jupytext), or run it
# from beginning to end. What it explains is in docs/analysis.md; every piece of code there is a piece of this file.

# %%
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import matplotlib
import matplotlib.dates
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pymongo

URI = os.environ.get("MONGODB_URI", "mongodb://127.0.0.1:27017")
DATABASE = os.environ.get("MONGODB_DATABASE", "telemetry")
GATEWAY = os.environ.get("GATEWAY", "gw7")
SINCE = datetime.fromisoformat(os.environ.get("SINCE", "2026-11-16")).replace(tzinfo=timezone.utc)
UNTIL = SINCE + timedelta(days=7)
OUT = Path(os.environ.get("OUT", "."))

db = pymongo.MongoClient(URI, tz_aware=True)[DATABASE]
readings = db["readings"]

# %% [markdown]
# ## What is there

# %%
devices = pd.DataFrame(
    {"device": d["device"], "field": name, **field, "first_seen": d["first_seen"], "last_seen": d["last_seen"]}
    for d in db["devices"].find({"gateway": GATEWAY})
    for name, field in d.get("fields", {}).items()
).set_index(["device", "field"])
units = {f["field"]: f.get("unit", "") for f in db["fields"].find({"collection": readings.name})}
print(devices[["type", "unit", "min", "max"]].to_string(), "\n")

# %% [markdown]
# ## Load


# %%
def load(device, fields):
    """The readings of a device, by time; `epoch` and `seq` say which they are."""
    where = {
        "meta.gateway": GATEWAY,
        "meta.device": device,
        "ts": {"$gte": SINCE, "$lt": UNTIL},
        # Times that nobody could put right are no times.
        "clock": {"$ne": "unsynced"},
    }
    frame = pd.DataFrame(readings.find(where, ["ts", "seq", *fields]).sort("ts"))
    frame["epoch"] = frame.pop("_id").str.split(":").str[1]
    return frame.set_index("ts")


outdoor = load("outdoor", ["temperature_c", "humidity_pct"])
pump = load("heat-pump", ["power_w", "energy_kwh"])
print(f"{len(outdoor)} readings of outdoor, {len(pump)} of heat-pump\n")

# The catalogue knows what may be expected; a value beyond it would be our mistake.
for device, frame in [("outdoor", outdoor), ("heat-pump", pump)]:
    for field in frame.columns.intersection(devices.loc[device].index):
        low, high = devices.loc[(device, field), ["min", "max"]]
        assert frame[field].between(low, high).all(), (device, field)

# %% [markdown]
# ## Resample
# A mean for what is a level, the last for a counter; an interval without readings stays empty.

# %%
quarter = pump["power_w"].resample("15min").agg(["mean", "min", "max"])
hour = pump["power_w"].resample("1h").mean()
meter = pump["energy_kwh"].resample("1D").agg(["first", "last"])
per_day = meter["first"].shift(-1).fillna(meter["last"]) - meter["first"]
print(f"{units['energy_kwh']} a day: {', '.join(f'{day:%a} {energy:.1f}' for day, energy in per_day.items())}\n")

# %% [markdown]
# ## Join two devices
# They measure at times of their own: to each reading of the one the newest of the other that is not too old.

# %%
joined = pd.merge_asof(
    pump[["power_w"]], outdoor[["temperature_c"]], left_index=True, right_index=True, tolerance=pd.Timedelta("10min")
).dropna()
hourly = joined.resample("1h").mean().dropna()
# In these hours it heats water, whatever the weather.
water = hourly.index.hour.isin([5, 6])
heating = hourly[~water]
slope, offset = np.polyfit(heating["temperature_c"], heating["power_w"], 1)
print(f"{-slope:.0f} W more for each °C that it is colder, over {len(heating)} hours\n")

# %% [markdown]
# ## What is not there, and why
# The ledger counts readings, not minutes: a sequence that is in `coverage` is stored, one that is in `losses` was
# declared lost by the gateway, with the reason. Anything else below what Kafka acknowledged would be missing.


# %%
def spans(pairs):
    """[0, 9, 20, 29] is 0..9 and 20..29."""
    return list(zip(pairs[::2], pairs[1::2]))


def without(ranges, taken):
    """What is left of ranges when others are taken away."""
    for low, high in taken:
        ranges = [
            part
            for first, last in ranges
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return ranges


def ledger():
    """Every range of sequences of this gateway that is not stored, and what is known of it."""
    rows = []
    for run in db["epochs"].find({"gateway": GATEWAY}):
        stream = {"gateway": GATEWAY, "lane": run["lane"], "epoch": run["epoch"]}
        noted = list(db["coverage"].find(stream))
        stored = [span for note in noted for day in note["present"] for span in spans(day["ranges"])]
        dead = [span for note in noted for span in spans(note["dead_lettered"])]
        end = run["acknowledged"] if run["acknowledged"] is not None else -1
        holes = without([(0, end)], stored)
        reasons = [("dead letter", first, last) for first, last in dead]
        for loss in db["losses"].find(stream):
            last = loss["last"] if loss["last"] is not None else end
            reasons.append((loss["reason"], loss["first"], last))
        for reason, low, high in reasons:
            for first, last in holes:
                if first <= high and low <= last:
                    rows.append((run["epoch"], max(first, low), min(last, high), reason))
            holes = without(holes, [(low, high)])
        rows += [(run["epoch"], first, last, "MISSING") for first, last in holes]
    return pd.DataFrame(rows, columns=["epoch", "first", "last", "reason"])


def when(gaps):
    """The times between which a range belongs: those of the readings around it."""
    name = f"{GATEWAY}:{{}}:{{:012x}}".format
    around = [(name(gap.epoch, gap.first - 1), name(gap.epoch, gap.last + 1)) for gap in gaps.itertuples()]
    ids = [i for pair in around for i in pair]
    # A time series has no index by _id, but one by time.
    near = {"_id": {"$in": ids}, "meta.gateway": GATEWAY, "ts": {"$gte": SINCE, "$lt": UNTIL}}
    times = {reading["_id"]: reading["ts"] for reading in readings.find(near, ["ts"])}
    return gaps.assign(
        after=[times.get(before) for before, _ in around], before=[times.get(behind) for _, behind in around]
    )


gaps = when(ledger())
gaps.insert(3, "readings", gaps["last"] - gaps["first"] + 1)
print(gaps.to_string(index=False) if len(gaps) else "nothing is missing", "\n")

# %% [markdown]
# A pause of one device need not be a loss: where the ledger has no hole, the device said nothing.


# %%
def pauses(device, frame):
    """Longer than three times the usual, and whether readings were lost in it."""
    step = frame.index.to_series().diff()
    found = frame.index[step > 3 * step.median()]
    begin = frame.index[frame.index.get_indexer(found) - 1]
    lost = [
        ", ".join(gaps[(gaps["after"] < end) & (gaps["before"] > start)]["reason"]) for start, end in zip(begin, found)
    ]
    why = [reason or "silent, nothing lost" for reason in lost]
    return pd.DataFrame({"device": device, "after": begin, "before": found, "why": why})


paused = pd.concat([pauses("outdoor", outdoor), pauses("heat-pump", pump)], ignore_index=True)
print(paused.to_string(index=False), "\n")
gaps.to_csv(OUT / "gaps.csv", index=False)
paused.to_csv(OUT / "pauses.csv", index=False)

# %% [markdown]
# ## Pictures

# %%
BLUE, RED, GREY = "#1f5fa8", "#b3261e", "#57606a"
plt.rcParams.update({
    "figure.dpi": 110, "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.grid": True, "grid.color": "#e6e8eb",
})


def shade(axes, label):
    """Losses over everything, pauses of one device over its own curve."""
    for gap in gaps.itertuples():
        axes.axvspan(gap.after, gap.before, color=RED, alpha=0.13, lw=0)
        if label:
            middle = gap.after + (gap.before - gap.after) / 2
            text = f"{gap.readings} readings lost\n{gap.reason}"
            axes.annotate(text, (middle, 0.99), xycoords=("data", "axes fraction"), ha="center", va="top", color=RED)


figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(11, 6), height_ratios=[2, 3], layout="constrained")
above.plot(outdoor["temperature_c"].resample("15min").mean(), color=BLUE, lw=1.4)
above.set(title="Outdoor temperature", ylabel=units["temperature_c"])
shade(above, label=False)
for pause in paused[paused["why"].str.startswith("silent")].itertuples():
    axes = above if pause.device == "outdoor" else below
    axes.axvspan(pause.after, pause.before, color=GREY, alpha=0.18, lw=0)
    axes.annotate(
        "silent,\nnothing lost", (pause.after + (pause.before - pause.after) / 2, 0.99),
        xycoords=("data", "axes fraction"), ha="center", va="top", color=GREY,
    )
below.fill_between(quarter.index, quarter["min"], quarter["max"], color=BLUE, alpha=0.35, lw=0, label="15 min, least to most")
below.plot(quarter["mean"], color=BLUE, lw=0.8, label="15 min, mean")
below.plot(hour, color="black", lw=1.4, label="hour, mean")
below.set(title="Power of the heat pump", ylabel=units["power_w"], xlim=(SINCE, UNTIL))
below.set(ylim=(0, 1.15 * quarter["max"].max()))
above.margins(y=0.2)
below.legend(loc="lower right", ncols=3, frameon=False)
shade(below, label=True)
# A name in the middle of each day, a line between two.
below.xaxis.set_major_locator(matplotlib.dates.DayLocator())
below.xaxis.set_major_formatter("")
below.xaxis.set_minor_locator(matplotlib.dates.HourLocator([12]))
below.xaxis.set_minor_formatter(matplotlib.dates.DateFormatter("%a %d %b"))
below.set_xlabel("days begin at midnight UTC", loc="right", color=GREY)
below.tick_params(which="minor", length=0)
figure.savefig(OUT / "week.png")

# %%
figure, axes = plt.subplots(figsize=(6.5, 4.6), layout="constrained")
axes.scatter(heating["temperature_c"], heating["power_w"], s=18, color=BLUE, alpha=0.6, lw=0, label="an hour of heating")
axes.scatter(hourly[water]["temperature_c"], hourly[water]["power_w"], s=18, color="none", ec=GREY, label="and hot water")
line = np.array([heating["temperature_c"].min(), heating["temperature_c"].max()])
axes.plot(line, slope * line + offset, color=RED, lw=1.6, label=f"{slope:.0f} W for each °C".replace("-", "\N{MINUS SIGN}"))
axes.set(title="What the cold costs", xlabel=f"outdoor, {units['temperature_c']}")
axes.set(ylabel=f"heat pump, {units['power_w']}", ylim=(0, None))
axes.legend(frameon=False)
figure.savefig(OUT / "cold.png")
print(f"pictures are in {OUT.resolve()}")
