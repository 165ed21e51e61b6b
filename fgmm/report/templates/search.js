const $ = id => document.getElementById(id);
const make = (tag, properties = {}) => Object.assign(document.createElement(tag), properties);
const played = [];  // Addresses of the files in the players that are shown.
let asked = 0;

async function ask(kind, body, said) {
  const number = ++asked, items = $("items") ? $("items").value : ITEMS[0];
  $("said").replaceChildren(said.trim());
  $("status").textContent = "searching …";
  $("status").className = "faint small";
  try {
    if (!said.trim()) throw new Error("the query is empty; type a sentence");
    if (body.size > MOST) throw new Error(`the file is larger than ${Math.floor(MOST / 2 ** 20)} MB`);
    const response = await fetch(`search?kind=${kind}&items=${items}`, {method: "POST", body});
    const answer = await response.json();
    if (number !== asked) return;  // A later query has replaced this one.
    if (!response.ok) throw new Error(answer.error);
    show(answer, items, kind === "text" ? said : "");
  } catch (error) {
    if (number !== asked) return;
    $("hits").replaceChildren();
    $("status").textContent = error.message;
    $("status").className = "bad";
  }
}

function show(answer, items, sentence) {
  $("status").textContent = `${answer.hits.length} clips in ${answer.milliseconds} ms, by ${answer.by}`;
  const cards = answer.hits.map(hit => card(hit, items));
  $("hits").replaceChildren(...cards.map(entry => entry.element));
  played.splice(0).forEach(src => URL.revokeObjectURL(src));
  if (!answer.phrases.length) return;
  const parts = [];
  // The spans count characters, and a string of JavaScript some of them twice.
  const letters = Array.from(sentence), cut = (start, end) => letters.slice(start, end).join("");
  let at = 0;
  answer.phrases.forEach(([start, end], number) => {
    parts.push(cut(at, start));
    const phrase = make("span", {textContent: cut(start, end), tabIndex: 0});
    const draw = on => () => {
      phrase.classList.toggle("on", on);
      cards.forEach(entry => entry.draw(on ? number : -1));
    };
    phrase.onmouseenter = phrase.onfocus = draw(true);
    phrase.onmouseleave = phrase.onblur = draw(false);
    parts.push(phrase);
    at = end;
  });
  $("said").replaceChildren(...parts, cut(at));
}

function card(hit, items) {
  const element = make("li", {className: "card"}), canvas = make("canvas");
  const screen = make("button", {className: "screen", type: "button", title: "play"});
  screen.setAttribute("aria-label", `play ${hit.id}`);
  screen.append(canvas);
  element.append(
    screen,
    make("p", {className: "caption", title: hit.caption, textContent: hit.caption}),
    make("p", {className: "faint", textContent: `${hit.id}, score ${hit.score}`}),
  );
  let strip = null, frames = 1;
  const draw = phrase => { if (strip && canvas.isConnected) paint(canvas, strip, frames, hit, phrase); };
  fetch(`strip/${items}/${hit.row}`).then(async response => {
    if (!response.ok) throw new Error((await response.json()).error);
    frames = Number(response.headers.get("Frames"));
    strip = await createImageBitmap(await response.blob());
    draw(-1);
  }).catch(error => element.append(make("p", {className: "bad", textContent: error.message})));
  screen.onclick = () => play(screen, hit.row, element);
  return {element, draw};
}

// Draws a frame. With a phrase, it is the frame at the peak of the attention, under the map.
function paint(canvas, strip, frames, hit, phrase) {
  const width = strip.width / frames, context = canvas.getContext("2d");
  const map = phrase >= 0 && hit.maps ? Uint8Array.from(atob(hit.maps[phrase]), c => c.charCodeAt(0)) : null;
  const [times, rows, columns] = hit.grid || [frames, 1, 1];
  const time = map ? Math.floor(map.indexOf(Math.max(...map)) / (rows * columns)) : Math.floor(times / 2);
  const frame = Math.min(frames - 1, Math.floor((time + 0.5) * frames / times));
  canvas.width = width;
  canvas.height = strip.height;
  context.drawImage(strip, frame * width, 0, width, strip.height, 0, 0, width, strip.height);
  canvas.dataset.phrase = phrase;
  if (!map) return;
  context.fillStyle = "#0009";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const heat = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) heat.data.set([255, 190, 40, 0.85 * map[time * rows * columns + i]], 4 * i);
  const small = make("canvas", {width: columns, height: rows});
  small.getContext("2d").putImageData(heat, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, columns, rows, 0, 0, canvas.width, canvas.height);
}

async function play(screen, row, element) {
  const playing = () => element.querySelector("audio, video, img");
  if (playing()) return;
  const response = await fetch(`media/${row}`);
  if (!response.ok) {
    element.append(make("p", {className: "bad", textContent: (await response.json()).error}));
    return;
  }
  const blob = await response.blob(), kind = blob.type.split("/")[0];
  if (playing() || !element.isConnected) return;
  const src = URL.createObjectURL(blob);
  played.push(src);
  if (kind === "audio") {
    screen.after(make("audio", {src, controls: true, autoplay: true}));
    return;
  }
  const player = kind === "video" ? make("video", {src, controls: true, autoplay: true, loop: true}) : make("img", {src, alt: ""});
  const holder = make("div", {className: "screen playing"});
  holder.append(player);
  screen.replaceWith(holder);
}

function dropped(file) {
  if (!file) return;
  const kind = file.type.split("/")[0];
  ask(["image", "audio", "video"].includes(kind) ? kind : "image", file, file.name);
}

$("form").onsubmit = event => { event.preventDefault(); ask("text", new Blob([$("query").value]), $("query").value); };
$("file").onchange = () => dropped($("file").files[0]);
document.addEventListener("dragover", event => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("over");
  dropped(event.dataTransfer.files[0]);
});
