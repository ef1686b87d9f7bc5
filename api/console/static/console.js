// Pages work without this. It makes lists live, keeps ages fresh, and takes single keys.

const policy = window.trustedTypes?.createPolicy("console", { createHTML: (html) => html });
const parse = (html) =>
  new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");

// ---------------------------------------------------------------------------------- addresses

// What was done is said once: not again when the page is loaded again, kept or shared.
const address = new URL(document.querySelector("[data-page]")?.dataset.page ?? location.href, location.href);
if (address.searchParams.has("did")) address.searchParams.delete("did"); // or all of it is written anew
if (address.href !== location.href) history.replaceState(history.state, "", address);

// ------------------------------------------------------------------------------------- ages

const STEPS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function age(seconds) {
  for (const [step, unit] of STEPS) if (seconds >= step) return `${Math.floor(seconds / step)} ${unit}`;
  return "now";
}

// Ages are told by the service's clock: this machine's may be wrong.
const ahead = Date.now() - Date.parse(document.body.dataset.now);

function keepAges() {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const passed = age((Date.now() - ahead - Date.parse(time.dateTime)) / 1000);
    time.textContent = time.dataset.age !== "ago" ? passed : passed === "now" ? "just now" : `${passed} ago`;
  }
}
setInterval(keepAges, 10_000);

// -------------------------------------------------------------------------------- live lists

const SOON = 400;
const LATER = 5_000;
const LATEST = 300_000;
const live = document.querySelector("[data-live]");
const said = live?.querySelector("[data-live-text]");
let due = null;
let arrived = new Set();
let events = null;
let patience = LATER;
let missed = false;

function say(text, state) {
  live.classList.toggle("on", state === "on");
  live.classList.toggle("off", state === "off");
  if (said.textContent !== text) said.textContent = text;
}

function reloadIn(wait) {
  due ??= setTimeout(reload, wait);
}

async function reload() {
  due = null;
  const fresh = arrived;
  arrived = new Set();
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  // Signed out meanwhile. The page stays: somebody may have typed a comment into it.
  if (answer?.redirected) return say("Signed out: load the page again.", "off");
  if (!answer || answer.status >= 429) {
    for (const id of fresh) arrived.add(id);
    return reloadIn(LATER);
  }
  if (answer.ok) show(parse(await answer.text()), fresh);
}

function show(page, fresh) {
  for (const region of document.querySelectorAll("[data-region]")) {
    const next = page.querySelector(`[data-region="${region.dataset.region}"]`);
    if (next) put(region, next, fresh);
  }
  // Whoever signed in again in another tab goes on here with what they had typed.
  const token = page.querySelector("input[name=form_token]")?.value;
  if (token) for (const field of document.querySelectorAll("input[name=form_token]")) field.value = token;
}

function put(region, next, fresh) {
  if (isAtWork(region)) return;
  const picked = new Set([...region.querySelectorAll("input:checked")].map((box) => box.value));
  const opened = new Set([...region.querySelectorAll("details[open] > summary")].map((one) => one.textContent));
  const focused = region.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  region.replaceChildren(...document.adoptNode(next).childNodes);
  for (const box of region.querySelectorAll("input[type=checkbox], input[type=radio]")) {
    box.checked = picked.has(box.value);
  }
  for (const one of region.querySelectorAll("details > summary")) {
    if (opened.has(one.textContent)) one.parentElement.open = true;
  }
  for (const row of region.querySelectorAll("[data-id]")) {
    if (fresh.has(row.dataset.id)) row.classList.add("new");
  }
  if (focused) [...region.querySelectorAll("a, button, input, summary")].find((one) => keyOf(one) === focused)?.focus();
}

// Somebody types there, or has: it is not taken from under their hands.
function isAtWork(region) {
  const here = document.activeElement;
  if (region.contains(here) && isTyping(here)) return true;
  const texts = [...region.querySelectorAll("textarea")];
  const options = [...region.querySelectorAll("option")];
  return texts.some((text) => text.value !== text.defaultValue)
    || options.some((option) => option.selected !== option.defaultSelected && option.index > 0);
}

const keyOf = (one) => `${one.tagName} ${one.getAttribute("href") ?? one.value ?? ""} ${one.name ?? ""}`;

function listen() {
  events?.close();
  events = new EventSource(live.dataset.live);
  events.addEventListener("open", () => {
    say("Live", "on");
    patience = LATER;
    if (missed) reloadIn(0);
    missed = false;
  });
  events.addEventListener("alert", (message) => {
    const alert = JSON.parse(message.data);
    const only = live.dataset.only;
    if (only && only !== alert.id) return;
    arrived.add(alert.id);
    const raised = alert.changes.includes("AlertRaised");
    say(raised ? `Live. New: ${alert.severity} alert` : "Live", "on");
    reloadIn(SOON);
  });
  events.addEventListener("reset", () => reloadIn(SOON));
  events.addEventListener("error", () => {
    missed = true;
    if (events.readyState !== EventSource.CLOSED) return say("Connecting again …", "off");
    // The browser has given up, as it does at any answer but 200. A screen on a wall must not.
    say("Not live any more: load the page again.", "off");
    setTimeout(listen, patience);
    patience = Math.min(patience * 2, LATEST);
  });
}

if (live) {
  listen();
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    missed = true;
    listen();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && events.readyState === EventSource.CLOSED) listen();
  });
}

// ------------------------------------------------------------------------------ time travel

const slider = document.querySelector("[data-slider]");

let leaving = null;

async function travel(form) {
  const there = `${form.getAttribute("action")}?${new URLSearchParams(new FormData(form))}`;
  leaving = there;
  const answer = await fetch(there, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const page = parse(await answer.text());
  if (leaving !== there) return; // pulled on meanwhile
  history.replaceState(null, "", there);
  show(page, new Set());
}

function link(field) {
  let pulled = null;
  const toText = () => {
    field.value = new Date(slider.value * 1000).toISOString().replace(".000Z", "Z");
    slider.setAttribute("aria-valuetext", field.value);
    clearTimeout(pulled);
    pulled = setTimeout(() => travel(slider.form), 250);
  };
  slider.closest("[hidden]").hidden = false;
  slider.addEventListener("input", toText);
  field.addEventListener("input", () => {
    const at = Date.parse(field.value);
    if (Number.isNaN(at)) return;
    slider.value = at / 1000;
    slider.setAttribute("aria-valuetext", field.value);
  });
}
if (slider) link(document.getElementById(slider.dataset.slider));

// -------------------------------------------------------------------------------------- keys

const help = document.getElementById("keys");
const KEPT = "sessiontrail-keys";
const PLACES = { a: "/console/alerts", p: "/console/people", o: "/console/overview", u: "/console/rules", t: "/console/audit", d: "/account" };
let going = false;

function keysAreOn() {
  try { return localStorage.getItem(KEPT) !== "off"; } catch { return true; }
}

function rows() {
  return [...document.querySelectorAll("[data-row]")];
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const here = all.indexOf(document.activeElement?.closest("tr, li")?.querySelector("[data-row]") ?? null);
  const at = here < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(here + by, 0), all.length - 1);
  all[at].focus();
  all[at].scrollIntoView({ block: "nearest" });
}

function boxHere() {
  return document.activeElement?.closest("tr")?.querySelector("input[type=checkbox]");
}

function acknowledge() {
  const list = document.querySelector("[data-list]");
  const button = document.querySelector("[data-key=a]");
  if (!button) return;
  const box = boxHere();
  if (list && box && !list.querySelector("input[type=checkbox]:checked")) box.checked = true;
  if (list && !list.querySelector("input[type=checkbox]:checked")) return;
  button.click();
}

const DEEDS = {
  j: () => step(1),
  k: () => step(-1),
  x: () => { const box = boxHere(); if (box) box.checked = !box.checked; },
  a: acknowledge,
  r: () => document.querySelector("[data-key=r]")?.click(),
  "/": () => document.querySelector("[data-search]")?.focus(),
  g: () => { going = true; setTimeout(() => { going = false; }, 1500); },
  "?": () => help.showModal(),
};

function isTyping(target) {
  return target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, dialog") !== null;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key !== "?" && !keysAreOn()) return;
  if (going && PLACES[event.key]) {
    const link = document.querySelector(`.top nav a[href="${PLACES[event.key]}"]`);
    going = false;
    event.preventDefault();
    return link?.click();
  }
  const deed = DEEDS[event.key];
  if (!deed) return;
  event.preventDefault();
  deed();
}

// A key that is held down opens the page that asks; it must not give the answer, too.
addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter" && event.target.closest("button")) event.preventDefault();
});
document.querySelector("[data-focus]")?.focus();

if (help) {
  addEventListener("keydown", onKey);
  const opener = document.querySelector("[data-keys-help]");
  opener.hidden = false;
  opener.addEventListener("click", () => help.showModal());
  const choice = help.querySelector("[data-keys-on]");
  choice.checked = keysAreOn();
  choice.addEventListener("change", () => {
    try { localStorage.setItem(KEPT, choice.checked ? "on" : "off"); } catch { /* not kept, then */ }
  });
}
