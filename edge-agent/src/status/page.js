
function lane(lane) {
  const part = lane.max_bytes ? Math.min(1, lane.bytes / lane.max_bytes) : 0;
  const kind = part > 0.9 ? "bad" : part > 0.5 ? "warn" : "";
  const bar = make("div", "");
  bar.style.width = `${(100 * part).toFixed(1)}%`;
  const gauge = make("div", `gauge ${kind}`, bar);
  gauge.setAttribute("role", "meter");
  gauge.setAttribute("aria-label", `queue of ${lane.topic}`);
  gauge.setAttribute("aria-valuemin", "0");
  gauge.setAttribute("aria-valuemax", "100");
  gauge.setAttribute("aria-valuenow", (100 * part).toFixed(1));
  gauge.setAttribute("aria-valuetext", `${bytes(lane.bytes)} of ${bytes(lane.max_bytes)}`);
  const figure = (name, value, unit) => make("div", "", make("dt", "", name), make("dd", "", value, make("small", "below", unit)));
  const budget = lane.offline_budget_s;
  const figures = make("dl", "figures",
    budget == null ? figure("offline budget", "–", "nothing comes in")
      : figure("offline budget", span(budget), `at ${rate(lane.committed_per_s)}/s`),
    figure("waiting", count(lane.readings), "readings"),
    figure("oldest", lane.readings > 0 ? span(lane.oldest_age_s) : "–", ""),
    figure("on disk", bytes(lane.bytes), `of ${bytes(lane.max_bytes)}`));
  if (lane.budget) figures.append(figure("sent today", bytes(lane.budget.spent_bytes), `of ${bytes(lane.budget.bytes_per_day)}`));
  const held = lane.held ? ` held back by ${lane.held.by}${lane.held.until ? ` until ${lane.held.until}` : ""}` : "";
  return make("div", "", make("strong", "", lane.topic), make("span", "soft", held), gauge, figures);
}

function value(field) {
  if (typeof field.value === "number") return plain(field.value);
  return String(field.value);
}

function device(device) {
  const values = make("div", "values");
  for (const field of device.fields) {
    values.append(make("span", "name", ...breakable(field.name)), make("span", field.curve.length ? "number" : "text", value(field)));
    if (field.curve.length > 1) values.append(spark(field.curve, field.name));
  }
  if (device.more_fields) values.append(make("span", "name", "and more"));
  return tr(make("span", "", device.device, make("div", "soft", device.source)), values,
    td("number", span(device.age_s)));
}

function show(status) {
  const { balance, rates } = status;
  frame(status, status.gateway);
  fill("lanes", status.lanes, lane);
  say("received-rate", rate(rates && rates.received));
  say("sent-rate", rate(rates && rates.acknowledged));
  say("received", count(balance.received));
  say("acknowledged", count(balance.acknowledged));
  const dropped = Object.values(balance.dropped).reduce((sum, one) => sum + one, 0);
  say("dropped", count(dropped), dropped ? "bad" : "");
  say("rejected", count(balance.rejected), balance.rejected ? "warn" : "");
  fill("devices", status.devices, device);
  byId("more-devices").hidden = !status.more_devices;
}
