"use strict";
(() => {
  const held = JSON.parse(document.getElementById("runs").textContent);
  const colors = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6"];
  const dashes = ["", "7 4", "2 3", "8 3 2 3"];
  const space = "http://www.w3.org/2000/svg";
  const byId = (id) => document.getElementById(id);
  const make = (name, text) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const draw = (parent, name, attributes, text) => {
    const element = document.createElementNS(space, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const short = (value) =>
    typeof value !== "number" ? String(value ?? "") :
      Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));

  let sorted = { column: 0, down: false };
  const chosen = new Set(held.runs.slice(0, 6).map((run) => run.name));

  // Words must all occur; one with "=" asks for the value of a column.
  const fits = (run, words) => words.every((word) => {
    const [name, value] = word.split("=", 2);
    if (value === undefined)
      return [run.name, run.state, ...run.cells].join(" ").toLowerCase().includes(word);
    const at = held.columns.findIndex((column) => column.toLowerCase().replaceAll(" ", "_") === name);
    return at >= 0 && short(run.cells[at]).toLowerCase() === value;
  });
  const shownRuns = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const key = (run) => sorted.column === 0 ? run.name : run.cells[sorted.column - 1];
    const empty = (value) => value === null || value === undefined || value === "";
    const ordered = held.runs.filter((run) => fits(run, words));
    ordered.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      const order = typeof a === "number" && typeof b === "number" ? a - b :
        String(a).localeCompare(String(b), "en", { numeric: true });
      return sorted.down ? -order : order;
    });
    return ordered;
  };

  const heads = () => {
    const row = byId("heads");
    row.replaceChildren();
    const corner = make("th");
    const all = make("input");
    all.type = "checkbox";
    all.title = "draw all that are shown, or none";
    all.addEventListener("change", () => {
      for (const run of shownRuns()) all.checked ? chosen.add(run.name) : chosen.delete(run.name);
      update();
    });
    corner.append(all);
    row.append(corner);
    ["run", ...held.columns].forEach((title, column) => {
      const head = make("th");
      head.scope = "col";
      const own = column === sorted.column;
      head.ariaSort = own ? (sorted.down ? "descending" : "ascending") : "none";
      const button = make("button", title + (own ? (sorted.down ? " ↓" : " ↑") : ""));
      button.type = "button";
      button.addEventListener("click", () => {
        sorted = { column, down: own ? !sorted.down : false };
        update();
      });
      head.append(button);
      row.append(head);
    });
  };

  const rows = (runs) => {
    byId("rows").replaceChildren(...runs.map((run) => {
      const row = make("tr");
      const box = make("input");
      box.type = "checkbox";
      box.checked = chosen.has(run.name);
      box.ariaLabel = `draw ${run.name}`;
      box.addEventListener("change", () => {
        box.checked ? chosen.add(run.name) : chosen.delete(run.name);
        curves();
      });
      const first = make("td");
      first.append(box);
      const name = make("th");
      name.scope = "row";
      if (run.link) {
        const link = make("a", run.name);
        link.href = run.link;
        name.append(link);
      } else name.textContent = run.name;
      if (run.state) name.append(make("small", ` ${run.state}`));
      row.append(first, name, ...run.cells.map((cell) => make("td", short(cell))));
      return row;
    }));
    byId("count").textContent = `${runs.length} of ${held.runs.length} runs`;
  };

  const ticks = (low, high, count) => {
    const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => unit * factor >= rough * 0.999);
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-6; at += step)
      found.push(Number(at.toPrecision(12)));
    return found;
  };

  const curves = () => {
    const metric = byId("metric").value;
    const picture = byId("curves"), keys = byId("keys");
    picture.replaceChildren();
    keys.replaceChildren();
    const drawn = shownRuns().filter((run) => chosen.has(run.name))
      .map((run) => ({ run, points: (run.curves[metric] ?? []).map((y, i) => [run.epochs[i], y])
        .filter(([, y]) => typeof y === "number") }))
      .filter(({ points }) => points.length);
    if (!drawn.length) {
      keys.append(make("li", "No run that is ticked has recorded this."));
      return;
    }
    const wide = picture.clientWidth || 640, tall = picture.clientHeight || 320;
    picture.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    const all = drawn.flatMap(({ points }) => points);
    const range = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const pad = low === high ? Math.abs(low) * 0.1 || 1 : (high - low) * 0.05;
      return [low - pad, high + pad];
    };
    const lowX = Math.min(...all.map(([x]) => x)), highX = Math.max(...all.map(([x]) => x));
    const [lowY, highY] = range(all.map(([, y]) => y));
    const box = { left: 62, right: wide - 12, top: 10, bottom: tall - 38 };
    const atX = (x) => lowX === highX ? (box.left + box.right) / 2 :
      box.left + (x - lowX) / (highX - lowX) * (box.right - box.left);
    const atY = (y) => box.bottom - (y - lowY) / (highY - lowY) * (box.bottom - box.top);
    for (const y of ticks(lowY, highY, 5)) {
      draw(picture, "line", { x1: box.left, x2: box.right, y1: atY(y), y2: atY(y), class: "grid" });
      draw(picture, "text", { x: box.left - 6, y: atY(y) + 4, "text-anchor": "end" }, short(y));
    }
    const whole = lowX === highX ? [lowX] : ticks(lowX, highX, Math.min(8, wide / 90)).filter(Number.isInteger);
    for (const x of whole)
      draw(picture, "text", { x: atX(x), y: box.bottom + 16, "text-anchor": "middle" }, short(x));
    draw(picture, "text", { x: (box.left + box.right) / 2, y: tall - 4, "text-anchor": "middle" }, "epoch");
    drawn.forEach(({ run, points }, number) => {
      const style = {
        stroke: `var(${colors[number % colors.length]})`,
        "stroke-dasharray": dashes[Math.floor(number / colors.length) % dashes.length],
      };
      const path = points.map(([x, y], i) => `${i ? "L" : "M"}${atX(x)} ${atY(y)}`).join("");
      const line = draw(picture, "path", { d: path, class: "curve", ...style });
      draw(line, "title", {}, `${run.name}: ${short(points.at(-1)[1])}`);
      for (const [x, y] of points.length > 30 ? [] : points) {
        const dot = draw(picture, "circle",
          { cx: atX(x), cy: atY(y), r: 2.5, fill: style.stroke, stroke: "none" });
        draw(dot, "title", {}, `${run.name}, epoch ${x}: ${short(y)}`);
      }
      const key = make("li");
      const mark = document.createElementNS(space, "svg");
      mark.setAttribute("class", "mark");
      mark.setAttribute("viewBox", "0 0 30 10");
      draw(mark, "line", { x1: 0, x2: 30, y1: 5, y2: 5, class: "curve", ...style });
      key.append(mark, make("span", `${run.name} (${short(points.at(-1)[1])})`));
      keys.append(key);
    });
  };

  const update = () => {
    heads();
    rows(shownRuns());
    curves();
  };
  for (const name of held.metrics) byId("metric").append(new Option(name.replaceAll("_", " "), name));
  byId("filter").addEventListener("input", update);
  byId("metric").addEventListener("change", curves);
  window.addEventListener("resize", curves);
  update();
})();
