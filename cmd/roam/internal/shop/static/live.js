// The page /live is the same for everyone. This script asks who you are, and
// puts things into your cart, by small calls that alone use the session.
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
find("again").addEventListener("click", () => call("GET", "/api/whoami"));
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
    if (answer.error === undefined) show(answer);
  } catch {
    log("", `${method} ${path}`, live.dataset.trouble);
  }
}

function show(answer) {
  find("user").textContent = answer.user || live.dataset.guest;
  find("count").textContent = answer.count;
  find("ended").hidden = answer.ended === "";
  find("ended").querySelector("b").textContent = answer.ended;
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

call("GET", "/api/whoami");
