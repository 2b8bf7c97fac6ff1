
function show(status) {
  const { balance, rates, latency } = status;
  frame(status, status.group);
  say("lag", count(status.lag));
  say("loss", span(status.time_to_loss_s), status.time_to_loss_s != null && status.time_to_loss_s < 3600 ? "bad" : "");
  say("consumed-rate", rate(rates && rates.consumed));
  say("written-rate", rate(rates && rates.written));
  say("p50", millis(latency.p50_ms));
  say("p99", millis(latency.p99_ms));
  say("in-flight", bytes(status.in_flight_bytes));
  say("in-flight-max", `of ${bytes(status.max_in_flight_bytes)}`);
  say("paused", count(status.paused_partitions), status.paused_partitions ? "warn" : "");
  say("consumed", count(balance.consumed));
  say("written", count(balance.written));
  say("duplicates", count(balance.duplicates));
  say("dead-letters", count(balance.dead_letters), balance.dead_letters ? "bad" : "");
  say("conflicts", count(balance.conflicts), balance.conflicts ? "bad" : "");
  say("gaps", count(status.gaps), status.gaps ? "bad" : "");
  say("facts", count(balance.control));
  say("raw-values", count(status.raw_values), status.raw_values ? "warn" : "");
  fill("partitions", status.partitions, (one) => tr(one.topic, td("number", one.partition), td("number", count(one.lag)),
    td("number", span(one.time_to_loss_s))));
  byId("more-partitions").hidden = !status.more_partitions;
  const letters = Object.entries(status.dead_letters).filter(([, records]) => records > 0);
  if (letters.length) letters.push(["in all", balance.dead_letters]);
  fill("letters", letters, ([reason, records]) => tr(reason, td("number", count(records))));
}
