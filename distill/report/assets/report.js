"use strict";
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const browser = document.getElementById("browser");
  if (!data || !browser) return;
  const STEP = 25;
  const find = (id) => document.getElementById(id);
  const [setting, filter, search, count, list, more, unprinted] =
    ["setting", "filter", "search", "count", "rows", "more", "unprinted"].map(find);
  const number = (value) => value.toLocaleString("en");

  const make = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    return node;
  };
  const texts = (name, text, className) => {
    const node = make(name, text, className);
    node.dir = "auto";
    return node;
  };

  data.settings.forEach((name, index) => {
    const option = make("option", name);
    option.value = String(index);
    if (data.runs.some((run) => run.setting === index)) setting.append(option);
  });

  // The rows of a setting: [test set, row, runs that answer it].
  const candidates = () => {
    const runs = data.runs.filter((run) => run.setting === Number(setting.value));
    const found = [];
    for (const test of new Set(runs.map((run) => run.rows))) {
      const answering = runs.filter((run) => run.rows === test);
      for (let row = 0; row < data.tests[test].id.length; row += 1) found.push([test, row, answering]);
    }
    return found;
  };
  const disagrees = (row, runs) => {
    const bySeed = new Map();
    for (const run of runs) {
      const label = run.labels[row];
      if (!bySeed.has(run.seed)) bySeed.set(run.seed, label);
      else if (bySeed.get(run.seed) !== label) return true;
    }
    return false;
  };
  const accepts = {
    "disagree": disagrees,
    "wrong": (row, runs) => runs.some((run) => run.correct[row] === "0"),
    "all-wrong": (row, runs) => runs.every((run) => run.correct[row] === "0"),
    "all": () => true,
  };
  const contains = (test, row, runs, words) => {
    const rows = data.tests[test];
    const parts = [rows.id[row], rows.input[row], data.labels[rows.gold[row]]];
    if (rows.teacher) parts.push(data.labels[rows.teacher[row]]);
    if (rows.rationale) parts.push(rows.rationale[row]);
    for (const run of runs) parts.push(data.labels[run.labels[row]]);
    const text = parts.join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  };

  const answer = (run, row) => {
    const right = run.correct[row] === "1";
    const cell = make("td", undefined, right ? "better" : "worse");
    const label = make("bdi", data.labels[run.labels[row]] || "(empty)");
    cell.append(right ? "✓ " : "✗ ", make("span", right ? "correct: " : "wrong: ", "hidden"), label);
    if (run.percent) cell.append(make("small", `${run.percent[row]}%`));
    return cell;
  };
  const table = (test, row, runs) => {
    const seeds = [...new Set(runs.map((run) => run.seed))].sort((a, b) => a - b);
    const node = make("table");
    node.append(make("caption", "Answers", "hidden"));
    const head = make("tr");
    for (const name of [data.compared, ...seeds.map((seed) => `seed ${seed}`)]) {
      const cell = make("th", name);
      cell.scope = "col";
      head.append(cell);
    }
    const body = make("tbody");
    data.methods.forEach((method, index) => {
      const own = runs.filter((run) => run.method === index);
      if (!own.length) return;
      const line = make("tr");
      const cell = make("th", method);
      cell.scope = "row";
      line.append(cell);
      for (const seed of seeds) {
        const run = own.find((each) => each.seed === seed);
        line.append(run ? answer(run, row) : make("td"));
      }
      body.append(line);
    });
    const top = make("thead");
    top.append(head);
    node.append(top, body);
    const region = make("div", undefined, "scroll");
    region.tabIndex = 0;
    region.setAttribute("role", "group");
    region.setAttribute("aria-label", `Answers to ${data.tests[test].id[row]}`);
    region.append(node);
    return region;
  };
  const render = ([test, row, runs]) => {
    const rows = data.tests[test];
    const item = make("li");
    item.append(make("p", rows.id[row], "id"), texts("p", rows.input[row], "input"));
    const facts = make("p");
    facts.append("Gold: ", make("bdi", data.labels[rows.gold[row]]));
    if (rows.teacher && data.labels[rows.teacher[row]]) {
      facts.append(" · Teacher: ", make("bdi", data.labels[rows.teacher[row]]));
    }
    item.append(facts);
    if (rows.rationale && rows.rationale[row]) {
      const details = make("details");
      details.append(make("summary", "The teacher's rationale"), texts("p", rows.rationale[row]));
      item.append(details);
    }
    item.append(table(test, row, runs));
    return item;
  };

  let found = [];
  let shown = 0;
  const showMore = () => {
    const part = document.createDocumentFragment();
    const first = shown;
    for (; shown < Math.min(found.length, first + STEP); shown += 1) part.append(render(found[shown]));
    list.append(part);
    const left = found.length - shown;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(STEP, left)} more of ${number(left)}`;
    unprinted.hidden = left === 0;
    unprinted.textContent = `${number(left)} more ${left === 1 ? "row is" : "rows are"} not printed.`;
    return list.children[first];
  };
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const accept = accepts[filter.value];
    const all = candidates();
    found = all.filter(([test, row, runs]) =>
      accept(row, runs) && (!words.length || contains(test, row, runs, words)));
    list.textContent = "";
    shown = 0;
    count.textContent = `${number(found.length)} of ${number(all.length)} test rows`;
    showMore();
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 150);
  });
  setting.addEventListener("change", update);
  filter.addEventListener("change", update);
  find("filters").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    const next = showMore();
    if (next) {
      next.tabIndex = -1;
      next.focus();
    }
  });
  browser.hidden = false;
  update();
})();
