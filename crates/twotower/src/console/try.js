// Fills the try-out page through the HTTP API: it asks for what an app would ask for, with a token as an app has one.
"use strict";

const LIMIT = 12;
const RECOMMENDATIONS = "/functions/v1/two_tower_recommendations";
const DONE = { like: "Liked", skip: "Skipped", hide: "Never again:", show: "No longer hidden:" };
const OWN_HEADER = { "x-twotower-console": "1" };

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const details = new Map();
let session = null;
let shown = [];
let busy = false;
// What was hidden last, and can be shown again.
let hidden = null;

async function call(path, { body, renewed = false, ...options } = {}) {
  const headers = { ...OWN_HEADER, ...options.headers };
  if (session) headers.authorization = `Bearer ${session.token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  const response = await fetch(path, { ...options, method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401 && session && !renewed) {
    await become(session.user);
    return call(path, { body, renewed: true, ...options });
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(`${answer.error.message} (request ${answer.error.request_id})`);
  return answer;
}

async function become(user) {
  session = null;
  session = await call("/console/session", { body: user ? { user } : {} });
  // After `#`, so that it reaches no log, and a reload stays the same person.
  history.replaceState(null, "", `#${session.user}`);
  $("who").textContent = `as user ${session.user.slice(0, 8)}…`;
  $("who").title = session.user;
}

async function refresh() {
  const [answer, past] = await Promise.all([
    call(RECOMMENDATIONS, { body: { limit: LIMIT, exclude_liked: true } }),
    call("/console/history"),
  ]);
  const missing = answer.recommendations.map((it) => it.video_id).filter((id) => !details.has(id));
  if (missing.length) {
    const { videos } = await call(`/console/videos?ids=${missing.join(",")}`);
    for (const video of videos) details.set(video.video_id, video);
  }
  showLikes(past);
  return showRecommendations(answer);
}

function showLikes({ count, likes }) {
  $("like-count").textContent = count;
  $("no-likes").hidden = count > 0;
  $("likes").replaceChildren(...likes.map((video) => {
    const item = document.createElement("li");
    item.dataset.video = video.video_id;
    item.textContent = video.title || "Untitled";
    const about = document.createElement("small");
    about.textContent = [video.genre, video.maker].filter(Boolean).join(" · ");
    if (about.textContent) item.append(about);
    return item;
  }));
}

function showRecommendations(answer) {
  const list = $("recommendations");
  const before = new Map([...list.children].map((card) => [card.dataset.video, card]));
  const places = new Map([...before].map(([id, card]) => [id, card.getBoundingClientRect()]));
  const scores = answer.recommendations.map((it) => it.score);
  const [best, worst] = [Math.max(...scores), Math.min(...scores)];
  let changes = 0;

  const cards = answer.recommendations.map((it, rank) => {
    const card = before.get(it.video_id) ?? newCard(it);
    const was = shown.indexOf(it.video_id);
    const move = card.querySelector(".move");
    move.className = "move";
    move.textContent = "";
    if (shown.length && was < 0) {
      [move.textContent, changes] = ["new", changes + 1];
      move.classList.add("new");
    } else if (was > rank) {
      move.textContent = `▲ ${was - rank}`;
      move.classList.add("up");
    } else if (shown.length && was < rank) {
      move.textContent = `▼ ${rank - was}`;
      move.classList.add("down");
    }
    card.classList.toggle("changed", shown.length > 0 && was < 0);
    card.querySelector(".rank").textContent = rank + 1;
    const share = best > worst ? 25 + (75 * (it.score - worst)) / (best - worst) : 100;
    card.querySelector(".fill").style.setProperty("--share", `${share}%`);
    card.querySelector(".score-text").textContent = it.score.toFixed(3) + (it.reason === "skipped_before" ? " · skipped before" : "");
    for (const button of card.querySelectorAll("button")) button.removeAttribute("aria-disabled");
    return card;
  });
  list.replaceChildren(...cards);
  list.setAttribute("aria-busy", "false");
  shown = answer.recommendations.map((it) => it.video_id);
  $("explanation").textContent = answer.source === "popular"
    ? "Nothing is known of this person yet, so these are the most liked videos. Like one, and the list becomes theirs."
    : `By two-tower model version ${answer.model_version}, from the likes and skips of this moment.`;
  $("end").hidden = answer.reason !== "catalogue_exhausted";
  glide(cards, places);
  return changes;
}

function newCard({ video_id: id, title }) {
  const video = details.get(id) ?? {};
  const card = $("card-template").content.firstElementChild.cloneNode(true);
  const name = title || "Untitled";
  card.dataset.video = id;
  card.querySelector("h3").textContent = name;
  card.querySelector(".glyph").textContent = video.genre ?? "";
  card.querySelector(".tile").style.setProperty("--hue", hue(video.genre ?? video.maker ?? id));
  card.querySelector(".meta").textContent = [video.maker, minutes(video.duration_seconds), price(video.price)].filter(Boolean).join(" · ");
  card.querySelector(".tags").append(...(video.tags ?? []).slice(0, 4).map((tag) => {
    const item = document.createElement("li");
    item.textContent = tag;
    return item;
  }));
  for (const button of card.querySelectorAll("button")) {
    button.setAttribute("aria-label", `${button.textContent} ${name}`);
    button.addEventListener("click", () => react(button.dataset.kind, id, name));
  }
  return card;
}

// Cards that stay slide from where they were.
function glide(cards, places) {
  if (calm.matches) return;
  for (const card of cards) {
    const [from, to] = [places.get(card.dataset.video), card.getBoundingClientRect()];
    const frames = from
      ? [{ transform: `translate(${from.left - to.left}px, ${from.top - to.top}px)` }, { transform: "none" }]
      : [{ opacity: 0, transform: "scale(.97)" }, { opacity: 1, transform: "none" }];
    card.animate(frames, { duration: 350, easing: "cubic-bezier(.2, .7, .2, 1)" });
  }
}

async function react(kind, id, name) {
  if (busy) return;
  busy = true;
  const card = document.querySelector(`.card[data-video="${id}"]`);
  const place = shown.indexOf(id);
  const hadFocus = card?.contains(document.activeElement);
  for (const button of document.querySelectorAll(".card button")) button.setAttribute("aria-disabled", "true");
  try {
    await call("/console/interactions", { body: { video_id: id, kind } });
    const changes = await refresh();
    $("status").textContent = `${DONE[kind]} “${name}”. ${changes} of ${shown.length} recommendations are new.`;
    hidden = kind === "hide" ? { id, name } : null;
    $("undo").hidden = !hidden;
    $("problem").hidden = true;
    if (hadFocus) focusNear(place, kind);
  } catch (error) {
    fail(error);
  } finally {
    for (const button of document.querySelectorAll(".card button")) button.removeAttribute("aria-disabled");
    busy = false;
  }
}

// Whoever works by keyboard goes on where the card was that has gone.
function focusNear(place, kind) {
  const cards = $("recommendations").children;
  const card = cards[Math.min(place, cards.length - 1)];
  const target = card?.querySelector(`button[data-kind="${kind}"]`) ?? $("content");
  target.focus({ preventScroll: target === $("content") });
}

function fail(error) {
  $("problem").textContent = `That did not work: ${error.message}. Try again in a moment.`;
  $("problem").hidden = false;
}

function hue(text) {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + character.codePointAt(0)) % 360;
  return hash;
}

const minutes = (seconds) => seconds > 0 && `${Math.max(1, Math.round(seconds / 60))} min`;
const price = (value) => value != null && (value === 0 ? "free" : value.toLocaleString());

async function start() {
  const wanted = location.hash.slice(1);
  [shown, hidden] = [[], null];
  $("undo").hidden = true;
  $("status").textContent = "Loading…";
  $("problem").hidden = true;
  try {
    await become(/^[0-9a-f-]{36}$/i.test(wanted) ? wanted : null);
    await refresh();
    $("status").textContent = `${shown.length} recommendations.`;
  } catch (error) {
    $("status").textContent = "";
    fail(error);
  }
}

addEventListener("hashchange", start);
$("undo").addEventListener("click", () => hidden && react("show", hidden.id, hidden.name));
start();
