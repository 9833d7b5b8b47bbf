// The scroll position of the page. A chat opens at its end, from its first frame on. A sent prompt moves to
// the top of the view and stays there while its reply grows below. If the user scrolls to the end, the page
// keeps showing the end; if the user scrolls elsewhere, the page stays there and shows a button to the end.
// An end that is in view stays there while the composer grows. If a prompt is refused, the page scrolls to
// the reason. When earlier messages are added above, Streamlit reuses the elements of later ones, so the
// text that is being read is kept at its distance from the end. If the address names a message (`at`), the
// chat opens there, and the message leaves the address once the user goes on.

const END = 0,
  FOUND = "found"; // the position of the message that the address names
const GAP = 16, // pixels above that message, which the fade of the title covers
  MARKED = 2000; // milliseconds for which the message is marked
const FRESH = '[data-stale="false"]';
const MOVES = /^(Arrow|Page|Home|End|Tab|Enter|F3| )/,
  DOWN = ["ArrowDown", "PageDown", "End", " "];
const STUCK = '[data-testid="stLayoutWrapper"]:has(> :is(.st-key-outage, .st-key-chat-head))';
let opened = null; // the chat whose messages are drawn
// the position that the page keeps: the class of the exchange at the top, FOUND, or pixels to the end;
// null: none
let kept = null;
let shown = null; // the id of the message that the address names, once the page has moved there
// set when a prompt is sent: the class of the last exchange at that time, and the classes of all refusals
let sent = null;
let top = 0; // the last known scroll position, in pixels
let extent = 0; // the last known height of the page, in pixels
let height = 0; // the last known height of what is below the page, in pixels
let isEndInView = false; // true while the end of the last message is above the composer

const exchanges = () =>
  [...document.querySelectorAll('.st-key-thread [class*="st-key-exchange-"]')].filter((one) =>
    one.checkVisibility(),
  );
const name = (exchange) => exchange?.className.match(/st-key-exchange-\d+/)?.[0];
const refusals = () =>
  [...document.querySelectorAll('[class*="st-key-refusal-"]')].map(
    ({ className }) => className.match(/st-key-refusal-\S+/)[0],
  );
const bottom = () => document.querySelector('[data-testid="stBottom"]');
const toEnd = (page) => page.scrollHeight - page.clientHeight - page.scrollTop;
const isAtEnd = (page) => toEnd(page) < 4;
const isDistance = () => typeof kept === "number";
const keptExchange = () =>
  isDistance() || !kept || kept === FOUND ? null : document.querySelector(`.${kept}`);
const inUrl = (name) => new URLSearchParams(location.search).get(name);

// Returns the message that the address names: it follows an element of the server.
function found() {
  const mark = document.querySelector(`i[data-at="${CSS.escape(inUrl("at") ?? "")}" i]`);
  const container = mark?.closest('[data-testid="stElementContainer"]');
  return mark?.nextElementSibling ?? container?.nextElementSibling;
}

const isFresh = (message) => message?.closest(FRESH) ?? message?.querySelector(FRESH);

function show(message) {
  message.classList.add("db-found");
  setTimeout(() => message.classList.remove("db-found"), MARKED);
}

// Removes the message from the address, unless it is still to be drawn.
function forget() {
  const url = new URL(location.href),
    at = url.searchParams.get("at");
  if (!at || (at !== shown && daybook.isRunning())) return;
  shown = null;
  url.searchParams.delete("at");
  history.replaceState(history.state, "", url);
}

// Returns the bottom edge of the sticky headers at the top of the page.
function edge(page) {
  const ends = [...document.querySelectorAll(STUCK)].map((head) => {
    const { position, top } = getComputedStyle(head);
    return position === "sticky" ? parseFloat(top) + head.offsetHeight : 0;
  });
  const bar = document.querySelector(".db-find-here")?.getBoundingClientRect().bottom;
  if (bar) ends.push(bar - page.getBoundingClientRect().top);
  return page.getBoundingClientRect().top + Math.max(0, ...ends);
}

// Makes the last exchange as high as the view, so that its prompt can be at the top of the view.
function makeRoom(page, exchange) {
  const block = exchange.closest('[data-testid="stMainBlockContainer"]');
  const below = block.getBoundingClientRect().bottom - exchange.parentElement.getBoundingClientRect().bottom;
  const above = edge(page) - page.getBoundingClientRect().top;
  setRoom(page.clientHeight - above - below - (bottom()?.offsetHeight ?? 0));
}

function setRoom(height) {
  document.documentElement.style.setProperty("--db-room", `${Math.max(0, Math.floor(height))}px`);
}

function keep() {
  const page = daybook.page();
  if (!page) return;
  const before = height;
  height = bottom()?.offsetHeight ?? 0;
  const canGrow = kept !== FOUND && !document.querySelector(".st-key-stop");
  // otherwise a growing composer would cover the end, unless it is still coming
  if (before && height > before && isEndInView && canGrow) kept = END;
  if (shown && kept !== FOUND) forget();
  const element = kept === FOUND ? found() : keptExchange();
  if (element?.checkVisibility()) {
    const off = element.getBoundingClientRect().top - edge(page) - (kept === FOUND ? GAP : 0);
    if (Math.abs(off) >= 1) page.scrollTop += off;
  } else if (isDistance() && Math.abs(toEnd(page) - kept) >= 4) page.scrollTop += toEnd(page) - kept;
  noteScroll(page);
  showWay();
}

const noteScroll = (page) => ([top, extent] = [page.scrollTop, page.scrollHeight]);

function showWay() {
  const bar = bottom(),
    last = exchanges().at(-1);
  const way = bar && (bar.querySelector(".db-latest") ?? makeWay(bar));
  if (!way) return document.documentElement.style.removeProperty("--db-below");
  const ends = [...(last?.children ?? [])].map((part) => part.getBoundingClientRect().bottom);
  isEndInView = Math.max(0, ...ends) <= bar.getBoundingClientRect().top + 8;
  // what is unchanged is not written: the next read would lay out the whole page
  if (way.hidden !== isEndInView) way.hidden = isEndInView;
  // the stylesheet puts the Undo bar above this height
  const below = `${bar.offsetHeight + way.offsetHeight}px`,
    { style } = document.documentElement;
  if (style.getPropertyValue("--db-below") !== below) style.setProperty("--db-below", below);
}

function makeWay(bar) {
  const way = document.createElement("div");
  way.className = "db-latest";
  way.hidden = true;
  way.innerHTML =
    '<button type="button"><span class="db-icon" aria-hidden="true">arrow_downward</span>' +
    "Jump to latest</button>";
  way.firstChild.addEventListener("click", () => {
    kept = END;
    keep();
  });
  bar.prepend(way);
  return way;
}

daybook.leavePlace = () => (kept = null);

daybook.noteSent = () => (sent = { last: name(exchanges().at(-1)), refusals: refusals() });

// Also keeps the position when elements grow, which can happen without a redraw.
const sizes = new ResizeObserver(keep),
  known = new WeakSet();

function watch(...places) {
  for (const place of places) {
    if (!place || known.has(place)) continue;
    known.add(place);
    sizes.observe(place);
  }
}

daybook.onDraw(() => {
  watch(daybook.page(), bottom(), document.querySelector('[data-testid="stMainBlockContainer"]'));
  const named = inUrl("c"),
    at = inUrl("at");
  const isAwaited = at && at !== shown;
  // all messages are drawn before the Stop button
  const isComing = isAwaited && daybook.isRunning() && !document.querySelector(`.st-key-stop${FRESH}`);
  const last = exchanges().at(-1);
  const drawn = refusals();
  const isRefused = sent !== null && drawn.some((refusal) => !sent.refusals.includes(refusal));
  // false while the container of the last exchange is still empty or has stale content
  const isDrawn = () => last.querySelector(`${FRESH} :is(.db-message, .stMarkdown)`);
  if (!last) opened = null;
  if (!at) shown = null;
  if (last && sent && name(last) !== sent.last) {
    opened = named;
    sent = null;
    kept = name(last);
    makeRoom(daybook.page(), last);
  } else if (isRefused) {
    sent = null;
    kept = END;
  } else if (!last) {
    if (drawn.length === 0) kept = null;
  } else if (isAwaited && isFresh(found())) {
    [opened, shown, kept] = [named, at, FOUND];
    setRoom(0);
    show(found());
  } else if (named && named !== opened && isDrawn() && !isComing) {
    opened = named;
    kept = END;
    setRoom(0);
  }
  keep();
});

// Once the user has scrolled to the end, the page keeps showing the end.
addEventListener(
  "scroll",
  ({ target }) => {
    const page = daybook.page();
    if (target !== page) return;
    const isMovedUp = page.scrollTop < top - 1,
      isMovedDown = page.scrollTop > top + 1;
    // the browser moves a page that is shorter for a moment while it is drawn, before this event
    const isLonger = page.scrollHeight > extent;
    if (kept === END && isMovedUp && !isLonger && !isAtEnd(page)) kept = null;
    else if (!kept && isMovedDown && isAtEnd(page)) kept = END;
    noteScroll(page);
    showWay();
  },
  { capture: true, passive: true },
);

function leave(isDown) {
  kept = null;
  forget();
  if (isDown)
    setTimeout(() => {
      if (!kept && isAtEnd(daybook.page())) kept = END;
    }, 150);
}

const hears = (act, hear) =>
  addEventListener(
    act,
    (event) => {
      const page = daybook.page(),
        isOnPage = page?.contains(event.target) && !bottom()?.contains(event.target);
      if (event.isTrusted && page) hear(event, isOnPage, page);
    },
    { capture: true, passive: true },
  );

hears("wheel", ({ deltaY, ctrlKey }, isOnPage) => {
  if (isOnPage && deltaY && !ctrlKey) leave(deltaY > 0);
});
hears("touchmove", (_, isOnPage) => {
  if (isOnPage) leave();
});
// an exchange that is kept in place is released only by a press on the scroll bar, whose target is the page
hears("pointerdown", ({ target }, isOnPage, page) => {
  if (isOnPage && (isDistance() || target === page)) leave();
});
hears("keydown", ({ target, key, ctrlKey, metaKey }) => {
  const isTyped = target.closest?.("input, textarea, dialog"),
    isSearch = (ctrlKey || metaKey) && ["f", "g"].includes(key);
  if (isSearch || kept > END || (!isTyped && MOVES.test(key))) leave(DOWN.includes(key));
});

daybook.capture(document, "click", ({ target }) => {
  if (target.closest(daybook.LEADS)) sent = null;
  // also releases the position: a screen reader may follow a link without the key or pointer event that
  // usually does so
  if (target.closest('a[href^="#"]')) leave();
  if (target.closest(".st-key-earlier button")) kept = toEnd(daybook.page());
  const again = target.closest(
    '.st-key-retry button, button[data-act="retry"], [role="menuitem"][data-message]',
  );
  if (again) {
    const button = document.querySelector(`[data-options][data-message="${again.dataset.message}"]`) ?? again;
    const exchange = button.closest('[class*="st-key-exchange-"]');
    if (!exchange || exchange !== exchanges().at(-1)) return daybook.noteSent(); // handled like a sent prompt
    kept = name(exchange); // the exchange stays in place while the new reply grows below its prompt
    makeRoom(daybook.page(), exchange);
    keep();
  }
});

addEventListener("resize", () =>
  requestAnimationFrame(() => {
    const exchange = keptExchange();
    if (exchange) makeRoom(daybook.page(), exchange);
    keep();
  }),
);
