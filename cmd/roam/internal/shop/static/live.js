// The page /live is the same for everyone. This script asks what is in your cart,
// and puts things into it, by small calls that alone use the session, and it
// hears when the session ends, on whichever server that happens.
"use strict";

const live = document.getElementById("live");
const find = id => document.getElementById(id);
const products = new Map();

for (const button of document.querySelectorAll("[data-add]")) {
  products.set(button.dataset.add, button.querySelector("span").textContent);
  button.addEventListener("click", () => {
    call("POST", "/api/cart/add", new URLSearchParams({product: button.dataset.add, qty: "1"}));
  });
}
find("again").addEventListener("click", () => call("GET", "/api/cart"));
find("asked").textContent = live.dataset.asked;

// Calls go one after the other. roam would not mind them all at once, but two
// that are both the first would start two sessions, and the browser has room
// for one.
let last = Promise.resolve();

function call(method, path, body) {
  last = last.then(() => send(method, path, body));
}

async function send(method, path, body) {
  try {
    const response = await fetch(path, {method, body});
    const answer = await response.json();
    log(answer.server, `${method} ${path}`, answer.error);
    if (answer.error !== undefined) return;
    show(answer);
    if (answer.ended === "" && answer.count > 0 && !watched) watch(); // a session has just begun
  } catch {
    log("", `${method} ${path}`, live.dataset.trouble);
  }
}

function show(answer) {
  find("user").textContent = answer.user || live.dataset.guest;
  find("count").textContent = answer.count;
  if (answer.ended !== "") end(answer.ended, "");
  find("lines").replaceChildren(...Object.entries(answer.cart).map(([product, qty]) => {
    const li = document.createElement("li");
    li.dataset.product = product;
    li.dataset.qty = qty;
    li.textContent = `${qty} × ${products.get(product) ?? product}`;
    return li;
  }));
}

function log(server, what, trouble) {
  const li = document.createElement("li");
  const who = document.createElement("b");
  who.className = "server tint" + tint(server);
  who.textContent = server || "–";
  li.append(who, " ", what, trouble ? ": " + trouble : "");
  find("log").prepend(li);
  while (find("log").children.length > 8) find("log").lastChild.remove();
}

// tint is the colour of a server, as on all other pages.
function tint(server) {
  return new TextEncoder().encode(server).reduce((sum, b) => sum + b, 0) % 6;
}

// watch opens the stream that says who you are and when that ends. A stream
// lasts some seconds, and the browser opens the next one by itself, maybe on
// another server. Only an answer that is no stream, in an outage, ends that.
let stream;
let watched = false; // there is a session, and it is being watched

function watch() {
  stream?.close();
  stream = new EventSource("/api/live");
  stream.addEventListener("watching", event => {
    const news = JSON.parse(event.data);
    watched = news.session;
    find("user").textContent = news.user || live.dataset.guest;
    state(news.session ? "watched" : "none", news.server);
    if (news.session) find("ended").hidden = true;
  });
  stream.addEventListener("ended", event => {
    const news = JSON.parse(event.data);
    watched = false;
    stream.close();
    if (news.rotated) { // by a login in another tab, whose cookie this one has too
      watch();
      return;
    }
    log(news.server, live.dataset.over, news.ended);
    end(news.ended, news.text);
    state("gone", news.server);
  });
  stream.addEventListener("error", () => {
    if (stream.readyState !== EventSource.CLOSED) return;
    state("unknown", "");
    setTimeout(watch, 1000 + 1000 * Math.random());
  });
}

// end says that the session is over. What the cart had is not there any more.
function end(reason, text) {
  find("ended").hidden = false;
  find("ended").querySelector("b").textContent = reason;
  find("why").textContent = text;
  find("user").textContent = live.dataset.guest;
  find("count").textContent = 0;
  find("lines").replaceChildren();
}

function state(name, server) {
  const at = find("watch");
  at.dataset.state = name;
  at.textContent = live.dataset[name];
  if (!server) return;
  const who = document.createElement("b");
  who.className = "server tint" + tint(server);
  who.textContent = server;
  at.append(" ", who);
}

call("GET", "/api/cart");
watch();
