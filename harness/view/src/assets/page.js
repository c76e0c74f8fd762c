"use strict";
// The page works without this script, as far as a page can: everything is there, unfiltered. The
// script filters, moves by keyboard, zooms flame graphs and fills the table of a log.
// What comes from a dump only ever becomes text (textContent), never markup.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const grouped = (number) => number.toLocaleString("en-US");
  const visible = (element) => element.checkVisibility
    ? element.checkVisibility() : element.getClientRects().length > 0;

  // ---- Filters. Each box says what it filters; a dump is filtered within its own section.

  const terms = (query) => query.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (words, wanted) => wanted.every((term) =>
    term.length > 1 && term.startsWith("-") ? !words.includes(term.slice(1)) : words.includes(term));
  const say = (input, shown, of, what) => {
    const output = input.parentElement.querySelector(".matched");
    output.textContent = input.value.trim() ? `${grouped(shown)} of ${grouped(of)} ${what}` : "";
  };
  const hideOthers = (input, elements, words, what) => {
    const wanted = terms(input.value);
    let shown = 0;
    for (const element of elements) {
      const fits = holds(words(element), wanted);
      element.classList.toggle("hidden", !fits);
      if (fits) shown += 1;
    }
    say(input, shown, elements.length, what);
  };
  const filters = {
    cards(input) {
      const dump = input.closest(".dump");
      hideOthers(input, all(".card", dump), (card) => card.dataset.words, "metrics");
    },
    rows(input) {
      const within = input.closest("details, .card, .dump");
      const table = input.closest(".filter").parentElement.querySelector("table") || within.querySelector("table");
      hideOthers(input, all("tbody tr", table), (row) => row.textContent.toLowerCase(), "rows");
    },
    groups(input) {
      const groupings = input.closest(".groupings");
      const groups = all(".grouping", groupings).filter((grouping) => !grouping.hidden)
        .flatMap((grouping) => all(".group", grouping));
      hideOthers(input, groups, (group) => group.dataset.words, "groups");
    },
    spans(input) {
      const wanted = terms(input.value);
      const spans = all(".span", input.closest(".dump"));
      let found = 0;
      for (const span of spans) {
        const fits = holds(span.dataset.words, wanted);
        span.classList.toggle("dim", !fits);
        if (fits) found += 1;
      }
      say(input, found, spans.length, "spans");
    },
  };
  document.addEventListener("input", (event) => {
    const kind = event.target.dataset && event.target.dataset.filter;
    if (kind && filters[kind]) filters[kind](event.target);
  });

  // ---- Keys that hold everywhere.

  const typing = (element) => element instanceof HTMLElement &&
    (element.matches("input:not([type=checkbox]):not([type=radio]), textarea, select") || element.isContentEditable);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (event.key === "/" && !typing(target)) {
      // The box of the section in which the reader is, or the first one that can be seen.
      const here = target.closest && target.closest(".dump");
      const boxes = [...(here ? all("input[type=search]", here) : []), ...all("input[type=search]")];
      const box = boxes.find(visible);
      if (box) {
        event.preventDefault();
        box.focus();
        box.select();
      }
    } else if (event.key === "Escape" && target.matches && target.matches("input[type=search]")) {
      event.preventDefault();
      if (target.value) {
        target.value = "";
        target.dispatchEvent(new Event("input", { bubbles: true }));
      } else {
        target.blur();
      }
    }
  });

  // ---- Charts: a legend's box shows and hides its line.

  document.addEventListener("change", (event) => {
    const ink = event.target.dataset && event.target.dataset.ink;
    if (!ink) return;
    for (const chart of all(".chart:not(.swatch):not(.spark)", event.target.closest("figure"))) {
      for (const line of all(`polyline[stroke="${ink}"], circle[fill="${ink}"]`, chart)) {
        line.classList.toggle("hidden", !event.target.checked);
      }
    }
  });

  // ---- Traces and groups of tasks: arrow keys move between summaries.

  const move = (event, summaries, here) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    let to;
    if (step) to = here + step;
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = summaries.length - 1;
    else return false;
    if (summaries[to]) {
      event.preventDefault();
      summaries[to].focus();
    }
    return true;
  };
  document.addEventListener("keydown", (event) => {
    const summary = event.target;
    if (!(summary instanceof HTMLElement) || !summary.matches("summary")) return;
    const details = summary.parentElement;
    if (event.key === "Escape" && details.open) {
      details.open = false;
      return;
    }
    if (details.matches(".span")) {
      const spans = all(".span", details.closest(".waterfall"));
      const here = spans.indexOf(details);
      if (move(event, spans.map((span) => span.firstElementChild), here)) return;
      const depth = Number(details.dataset.depth);
      let to;
      if (event.key === "ArrowLeft") {
        to = spans.slice(0, here).reverse().find((span) => Number(span.dataset.depth) < depth);
      } else if (event.key === "ArrowRight" && spans[here + 1] && Number(spans[here + 1].dataset.depth) > depth) {
        to = spans[here + 1];
      }
      if (to) {
        event.preventDefault();
        to.firstElementChild.focus();
      }
    } else if (details.matches(".group, .stack")) {
      const within = details.closest(".groups");
      const summaries = all(".group > summary, .stack > summary", within).filter(visible);
      if (move(event, summaries, summaries.indexOf(summary))) return;
      if (event.key === "ArrowRight" && !details.open) {
        details.open = true;
      } else if (event.key === "ArrowLeft") {
        const parent = details.parentElement.closest("details");
        if (details.open) details.open = false;
        else if (parent) parent.firstElementChild.focus();
      } else {
        return;
      }
      event.preventDefault();
    }
  });

  // ---- Tasks: one grouping at a time.

  all(".groupings").forEach((groupings, nth) => {
    const choose = (chosen) => {
      for (const grouping of all(".grouping", groupings)) grouping.hidden = grouping.dataset.nth !== chosen;
      const box = groupings.querySelector("input[type=search]");
      if (box.value) filters.groups(box);
    };
    for (const radio of all(".choice input", groupings)) {
      radio.name = `grouping-${nth}`;
      radio.addEventListener("change", () => choose(radio.value));
    }
    choose("0");
  });

  // ---- Logs.

  const MOST_ROWS = 2000;
  const TERM = /(-?)(?:([^\s=!"]+)(!?=))?(?:"([^"]*)"|(\S+))/g;

  const logs = (log) => {
    const data = JSON.parse(log.querySelector("script.data").textContent);
    const shown = new Set(data.columns.map((_, nth) => nth).filter((nth) => nth < data.shown));
    const box = log.querySelector("input[type=search]");
    const output = log.querySelector(".matched");
    const head = log.querySelector("thead");
    const body = log.querySelector("tbody");
    const words = data.rows.map((row) => row.slice(2).filter((cell) => cell !== null).join("\u0000").toLowerCase());

    // `field=value` where there is such a field; else the whole of it is text to look for.
    const parse = (query) => [...query.matchAll(TERM)].map(([whole, minus, field, sign, quoted, plain]) => {
      const value = (quoted !== undefined ? quoted : plain || "").toLowerCase();
      const column = field === undefined ? -1 : data.columns.findIndex((name) => name.toLowerCase() === field.toLowerCase());
      const not = minus === "-";
      if (column >= 0) {
        const unequal = (sign === "!=") !== not;
        return (row) => ((row[column + 2] === null ? "" : row[column + 2].toLowerCase()) === value) !== unequal;
      }
      const text = field === undefined ? value : whole.slice(minus.length).replaceAll('"', "").toLowerCase();
      return (row, nth) => words[nth].includes(text) !== not;
    });

    const drawHead = () => {
      const row = make("tr");
      const number = make("th", "number", "#");
      number.scope = "col";
      row.append(number);
      data.columns.forEach((name, nth) => {
        if (!shown.has(nth)) return;
        const cell = make("th", "name", name);
        cell.scope = "col";
        row.append(cell);
      });
      head.replaceChildren(row);
    };
    const drawRow = (row) => {
      const element = make("tr", row[1]);
      element.tabIndex = -1;
      element.setAttribute("aria-expanded", "false");
      const number = make("th", "number", grouped(row[0]));
      number.scope = "row";
      element.append(number);
      data.columns.forEach((_, nth) => {
        if (!shown.has(nth)) return;
        const text = row[nth + 2] === null ? "" : row[nth + 2];
        const cell = make("td", data.short[nth] ? "short" : "");
        if (nth >= data.leads) cell.dataset.name = data.columns[nth];
        if (nth === data.level) cell.append(make("span", `level ${row[1]}`, text));
        else cell.textContent = text;
        element.append(cell);
      });
      element.row = row;
      return element;
    };
    const draw = () => {
      const tests = parse(box.value);
      const matched = data.rows.filter((row, nth) => tests.every((test) => test(row, nth)));
      const rows = matched.slice(0, MOST_ROWS).map(drawRow);
      if (rows[0]) rows[0].tabIndex = 0;
      body.replaceChildren(...rows);
      const parts = [];
      if (tests.length) parts.push(`${grouped(matched.length)} of ${grouped(data.rows.length)} lines match`);
      if (matched.length > rows.length) parts.push(`the first ${grouped(rows.length)} are shown`);
      output.textContent = parts.join(", ");
    };
    const toggle = (element) => {
      const next = element.nextElementSibling;
      if (next && next.matches(".opened-row")) {
        next.remove();
        element.setAttribute("aria-expanded", "false");
        return;
      }
      const list = make("dl");
      data.columns.forEach((name, nth) => {
        if (element.row[nth + 2] === null) return;
        list.append(make("dt", "name", name), make("dd", "", element.row[nth + 2]));
      });
      const cell = make("td");
      cell.colSpan = shown.size + 1;
      cell.append(list);
      const row = make("tr", "opened-row");
      row.append(cell);
      element.after(row);
      element.setAttribute("aria-expanded", "true");
    };
    const focus = (element) => {
      for (const other of all("tr[tabindex='0']", body)) other.tabIndex = -1;
      element.tabIndex = 0;
      element.focus();
    };
    const neighbor = (element, step) => {
      let next = element;
      do next = step > 0 ? next.nextElementSibling : next.previousElementSibling;
      while (next && !next.row);
      return next;
    };

    let waiting = 0;
    box.addEventListener("input", () => {
      clearTimeout(waiting);
      if (data.rows.length > 3000) waiting = setTimeout(draw, 150);
      else draw();
    });
    for (const column of all(".columns input", log)) {
      column.addEventListener("change", () => {
        if (column.checked) shown.add(Number(column.value));
        else shown.delete(Number(column.value));
        drawHead();
        draw();
      });
    }
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && row.row && !String(getSelection())) {
        focus(row);
        toggle(row);
      }
    });
    body.addEventListener("keydown", (event) => {
      const row = event.target;
      if (!row.row) return;
      const rows = () => [...body.children].filter((element) => element.row);
      let to;
      if (event.key === "ArrowDown") to = neighbor(row, 1);
      else if (event.key === "ArrowUp") to = neighbor(row, -1);
      else if (event.key === "Home") to = rows()[0];
      else if (event.key === "End") to = rows().pop();
      else if (event.key === "Enter" || event.key === " ") toggle(row);
      else if (event.key === "Escape" && row.getAttribute("aria-expanded") === "true") toggle(row);
      else return;
      event.preventDefault();
      if (to) focus(to);
    });
    drawHead();
    draw();
  };
  all(".log").forEach(logs);

  // ---- Flame graphs. The frames are drawn; zooming gives them other places and texts.

  const flame = (figure) => {
    const svg = figure.querySelector("svg.frames");
    const canvas = figure.querySelector(".canvas");
    const told = figure.querySelector(".told");
    const reset = figure.querySelector(".reset");
    const box = figure.querySelector("input[type=search]");
    const output = figure.querySelector(".matched");
    const frames = all("g > g", svg).map((g) => {
      const rect = g.querySelector("rect");
      const title = g.querySelector("title");
      const told = title.textContent;
      // The browser's own tooltip would cover the frames below.
      title.remove();
      return {
        g, rect, text: g.querySelector("text"), told, name: told.replace(/ \([^()]*\)$/, ""),
        x: Number(rect.getAttribute("fg:x")), width: Number(rect.getAttribute("fg:w")), y: Number(rect.getAttribute("y")),
      };
    });
    if (!frames.length) return;
    frames.sort((a, b) => a.y - b.y || a.x - b.x);
    const root = frames[0];
    const covers = (outer, inner) => outer.x <= inner.x && inner.x + inner.width <= outer.x + outer.width;
    let zoomed = root;
    let chosen = root;

    const CHARACTER = 7.3;
    const layout = () => {
      const pixels = svg.clientWidth || 1000;
      for (const frame of frames) {
        const above = frame.y <= zoomed.y && covers(frame, zoomed);
        const below = frame.y >= zoomed.y && covers(zoomed, frame);
        frame.g.classList.toggle("hidden", !above && !below);
        if (!above && !below) continue;
        const left = above ? 0 : (frame.x - zoomed.x) / zoomed.width;
        const width = above ? 1 : frame.width / zoomed.width;
        frame.rect.setAttribute("x", `${100 * left}%`);
        frame.rect.setAttribute("width", `${100 * width}%`);
        frame.text.setAttribute("x", `${100 * left}%`);
        frame.text.setAttribute("dx", "4");
        const room = Math.floor((width * pixels - 8) / CHARACTER);
        const whole = frame.name;
        frame.text.textContent = room < 3 ? "" : whole.length <= room ? whole : `${whole.slice(0, room - 1)}…`;
      }
      reset.hidden = zoomed === root;
    };
    const choose = (frame) => {
      chosen.g.classList.remove("chosen");
      chosen = frame;
      chosen.g.classList.add("chosen");
      told.textContent = frame.told;
    };
    const zoom = (frame) => {
      zoomed = frame;
      layout();
      choose(frame);
    };
    const frameOf = (event) => {
      const g = event.target.closest("g");
      return frames.find((frame) => frame.g === g);
    };
    svg.addEventListener("mouseover", (event) => {
      const frame = frameOf(event);
      if (frame) told.textContent = frame.told;
    });
    svg.addEventListener("mouseleave", () => { told.textContent = chosen.told; });
    svg.addEventListener("click", (event) => {
      const frame = frameOf(event);
      if (frame) zoom(frame);
    });
    reset.addEventListener("click", () => { zoom(root); canvas.focus(); });
    canvas.addEventListener("focus", () => choose(chosen));
    canvas.addEventListener("keydown", (event) => {
      const seen = frames.filter((frame) => !frame.g.classList.contains("hidden"));
      const level = seen.filter((frame) => frame.y === chosen.y);
      const levels = [...new Set(seen.map((frame) => frame.y))];
      const beside = level.indexOf(chosen);
      const deeper = levels[levels.indexOf(chosen.y) + 1];
      const higher = levels[levels.indexOf(chosen.y) - 1];
      let to;
      if (event.key === "ArrowLeft") to = level[beside - 1];
      else if (event.key === "ArrowRight") to = level[beside + 1];
      else if (event.key === "ArrowUp") to = seen.find((frame) => frame.y === higher && covers(frame, chosen));
      else if (event.key === "ArrowDown") {
        // The widest of those that it calls.
        to = seen.filter((frame) => frame.y === deeper && covers(chosen, frame))
          .sort((a, b) => b.width - a.width)[0];
      } else if (event.key === "Home") to = zoomed;
      else if (event.key === "Enter" || event.key === " ") zoom(chosen);
      else if (event.key === "Escape") zoom(root);
      else return;
      event.preventDefault();
      if (to) choose(to);
    });
    box.addEventListener("input", () => {
      const wanted = terms(box.value);
      let found = 0;
      // Of frames within frames that are found, the outermost counts: their samples are the same.
      const counted = [];
      for (const frame of frames) {
        const fits = wanted.length > 0 && holds(frame.name.toLowerCase(), wanted);
        frame.g.classList.toggle("found", fits);
        frame.g.classList.toggle("dim", wanted.length > 0 && !fits);
        if (!fits) continue;
        found += 1;
        if (!counted.some((outer) => covers(outer, frame))) counted.push(frame);
      }
      const share = counted.reduce((sum, frame) => sum + frame.width, 0) / root.width;
      output.textContent = wanted.length ? `${grouped(found)} frames match, ${(100 * share).toFixed(1)}%` : "";
    });
    let drawnFor = 0;
    new ResizeObserver(() => {
      // A picture that is folded away has no width to lay out for.
      if (svg.clientWidth && svg.clientWidth !== drawnFor) {
        drawnFor = svg.clientWidth;
        layout();
      }
    }).observe(canvas);
    layout();
  };
  all(".flame").forEach(flame);
})();
