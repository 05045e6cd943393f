"use strict";
// Unpack Plotly, draw the page's charts, and draw them again when the reader's colour scheme changes.
(async () => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const config = { displayModeBar: false, responsive: true };
  const coarse = matchMedia("(pointer: coarse)").matches;

  // {"css": "--name"} stands for a colour of the style sheet.
  const painted = (value, style) => {
    if (Array.isArray(value)) return value.map((item) => painted(item, style));
    if (value === null || typeof value !== "object") return value;
    if (typeof value.css === "string") return style.getPropertyValue(value.css).trim();
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item, style)]));
  };

  const axis = (style) => ({
    gridcolor: style.getPropertyValue("--line").trim(),
    linecolor: style.getPropertyValue("--line").trim(),
    tickcolor: style.getPropertyValue("--line").trim(),
  });

  const layout = (own, height, style) => {
    const ink = style.getPropertyValue("--ink").trim();
    const card = style.getPropertyValue("--card").trim();
    const common = {
      height,
      autosize: true,
      showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: ink },
      margin: { l: 56, r: 12, t: 10, b: 48 },
      // A finger scrolls the page; a mouse may zoom.
      dragmode: coarse ? false : "zoom",
      hoverlabel: { bgcolor: card, bordercolor: ink, font: { color: ink, size: 12 }, align: "left" },
    };
    for (const name of Object.keys(own).filter((key) => /axis/.test(key))) {
      own[name] = Object.assign(axis(style), own[name]);
    }
    return Object.assign(common, own);
  };

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    for (const chart of charts) {
      const figure = painted(chart.figure, style);
      Plotly.react(chart.id, figure.data, layout(figure.layout, chart.height, style), config);
    }
  };

  // The policy names the hash of what is unpacked: nothing else runs here.
  const unpacked = async (text) => {
    const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  };
  const script = document.createElement("script");
  script.textContent = await unpacked(document.getElementById("plotly").textContent.trim());
  document.head.append(script);

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
