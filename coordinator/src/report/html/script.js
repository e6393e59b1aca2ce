// A cross-hair through all charts, and the exact values under it. Everything else is in the page without it.
"use strict";
(() => {
  const source = document.getElementById("data");
  if (!source) return;
  const { end, plot: [left, right, width], charts } = JSON.parse(source.textContent);
  const tip = document.getElementById("tip");
  const svgs = [...document.querySelectorAll("svg[data-chart]")];
  const digits = (v) => (v < 9.995 ? v.toFixed(2) : v < 99.95 ? v.toFixed(1) : v.toFixed(0));
  const scaled = (v, steps) => {
    let i = 0;
    while (i + 1 < steps.length && v >= steps[i + 1][0]) i++;
    return (i === 0 ? String(Math.round(v)) : digits(v / steps[i][0])) + " " + steps[i][1];
  };
  const show = {
    us: (v) => scaled(v, [[1, "µs"], [1e3, "ms"], [1e6, "s"]]),
    bytes: (v) => scaled(v, [[1, "B"], [1e3, "KB"], [1e6, "MB"], [1e9, "GB"]]),
    rate: (v) => v.toLocaleString("en", { maximumFractionDigits: 2 }) + "/s",
    share: (v) => (v * 100).toFixed(1) + "%",
    cores: (v) => v.toFixed(2) + " cores",
  };
  const clock = (t) => {
    const s = Math.floor(t), pad = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + " s";
    return (s >= 3600 ? Math.floor(s / 3600) + "h " : "") + pad(Math.floor(s / 60) % 60) + "m " + pad(s % 60) + "s";
  };
  const element = (tag, text, parent, name) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (name) made.className = name;
    parent.append(made);
    return made;
  };
  const hide = () => {
    tip.hidden = true;
    for (const svg of svgs) svg.classList.remove("hover");
  };
  // Of a heatmap: the latencies of the row, and the share by the colour that is under the pointer.
  const cell = ({ plot: [top, bottom, height], from, rows, per, legend }, event, box) => {
    const y = ((event.clientY - box.top) / box.height) * height;
    if (y < top || y > bottom) return;
    const row = Math.floor(((bottom - y) / (bottom - top)) * rows);
    const edge = (r) => show.us(from * 10 ** (r / per));
    const level = /^h(\d)$/.exec(event.target.getAttribute("class") || "");
    const line = element("div", "", tip, level ? level[0] : "");
    if (level) element("i", "", line);
    element("span", edge(row) + " to " + edge(row + 1), line);
    element("em", level ? legend[Number(level[1])] : "none", line);
  };
  const move = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    if (x < left || x > right) return hide();
    const t = ((x - left) / (right - left)) * end;
    const chart = charts[Number(event.currentTarget.dataset.chart)];
    for (const svg of svgs) {
      const cross = svg.querySelector(".cross");
      cross.setAttribute("x1", x);
      cross.setAttribute("x2", x);
      svg.classList.add("hover");
    }
    tip.replaceChildren();
    element("b", clock(t), tip);
    if (chart.heat) cell(chart.heat, event, box);
    const at = Math.floor(t / chart.step);
    for (const line of chart.lines) {
      const value = line.v[at];
      const row = element("div", "", tip, line.c);
      element("i", "", row);
      element("span", line.n, row);
      element("em", value === null || value === undefined ? "–" : show[chart.u](value), row);
    }
    tip.hidden = false;
    const beside = event.clientX + 16 + tip.offsetWidth > innerWidth ? event.clientX - 16 - tip.offsetWidth : event.clientX + 16;
    tip.style.left = Math.max(4, beside) + "px";
    tip.style.top = Math.max(4, Math.min(event.clientY + 12, innerHeight - tip.offsetHeight - 8)) + "px";
  };
  for (const svg of svgs) {
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerleave", hide);
  }
})();
