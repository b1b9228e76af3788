import { onSupabase, react, recommend, Refused, signIn } from "./backend.js";

const LIMIT = 10;
const WHY = {
  because_you_liked: "Because of what you liked",
  new: "New here",
  popular: "Liked by many",
  skipped_before: "You skipped this one before",
};

const byId = (id) => document.getElementById(id);
/** Kept for this tab only. */
const session = {
  get token() {
    return sessionStorage.getItem("access-token");
  },
  set token(token) {
    if (token) sessionStorage.setItem("access-token", token);
    else sessionStorage.removeItem("access-token");
  },
};

function tell(status, problem = "") {
  byId("status").textContent = status;
  byId("problem").textContent = problem;
}

function showSignIn() {
  byId("by-password").hidden = !onSupabase;
  byId("by-token").hidden = onSupabase;
  byId("sign-in").hidden = false;
  byId("list").hidden = true;
  byId("sign-out").hidden = true;
  byId(onSupabase ? "email" : "token").focus();
}

/** Runs an action of the user, and shows what went wrong. */
async function attempt(work) {
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401 || error.status === 403) {
      session.token = null;
      showSignIn();
      tell("", `You are not signed in: ${error.message}`);
    } else {
      tell("", error.message);
    }
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

async function showList(told) {
  const list = await recommend(session.token, LIMIT);
  byId("sign-in").hidden = true;
  byId("sign-out").hidden = false;
  byId("list").hidden = false;
  byId("explanation").textContent = list.source === "popular"
    ? "Like something, and this list will be yours. Until then it is what most people like."
    : "From what you liked and skipped.";
  byId("videos").replaceChildren(...list.recommendations.map((video) => card(video, list)));
  tell(told ?? (list.recommendations.length ? "" : "There is nothing left to show."));
}

function card(video, list) {
  const item = byId("video").content.cloneNode(true).firstElementChild;
  item.dataset.video = video.video_id;
  const title = item.querySelector("h3");
  title.textContent = video.title;
  title.id = `title-${video.video_id}`;
  item.querySelector(".why").textContent = WHY[video.reason] ?? "";
  for (const button of item.querySelectorAll("button")) {
    const { kind } = button.dataset;
    // Screen readers read the button as "Like" and the title.
    button.id = `${kind}-${video.video_id}`;
    button.setAttribute("aria-labelledby", `${button.id} ${title.id}`);
    button.addEventListener("click", () =>
      attempt(async () => {
        const place = [...byId("videos").children].indexOf(item);
        await react(session.token, kind, video, list);
        await showList(kind === "like" ? `You like “${video.title}”.` : `You skipped “${video.title}”.`);
        // The card is gone or has moved, so the keyboard focus goes to the card in its place.
        const next = byId("videos").children[place] ?? byId("videos").lastElementChild;
        (next?.querySelector(`[data-kind=${kind}]`) ?? byId("list-title")).focus();
      }));
  }
  return item;
}

byId("sign-in").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const given = new FormData(submitted.target);
  attempt(async () => {
    session.token = onSupabase ? await signIn(given.get("email"), given.get("password")) : given.get("token").trim();
    await showList("You are signed in.");
    submitted.target.reset();
    byId("list-title").focus();
  });
});

byId("sign-out").addEventListener("click", () => {
  session.token = null;
  byId("videos").replaceChildren();
  showSignIn();
  tell("You are signed out.");
});

if (session.token) attempt(() => showList());
else showSignIn();
