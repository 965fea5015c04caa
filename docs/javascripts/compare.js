// Turns each list of pictures of the gallery into two that lie one over the other, with a divider between.
// The first of a list is the original; without a script the list is shown as it is.
document.querySelectorAll(".compare").forEach((figure) => {
  const items = [...figure.querySelectorAll(".compare-list figure")];
  const [original, ...coded] = items.map((item) => ({
    src: item.querySelector("img").src,
    style: item.querySelector("img").style.cssText,
    name: item.dataset.name,
    words: item.querySelector("figcaption").innerHTML,
  }));
  const make = (name, attributes) => Object.assign(document.createElement(name), attributes);
  const stage = make("div", { className: "compare-stage" });
  const under = make("img", { src: original.src, alt: original.name, style: original.style });
  const over = make("img", { className: "over" });
  const right = make("span", { className: "right" });
  const range = make("input", { type: "range", min: 0, max: 100, value: 50, step: 0.5 });
  range.setAttribute("aria-label", "Divider between the original and what was decoded");
  range.oninput = () => stage.style.setProperty("--split", `${range.value}%`);
  stage.append(under, over, make("span", { className: "left", textContent: original.name }), right, range);
  const caption = make("figcaption", {});
  const choices = make("div", { className: "compare-choices" });
  const show = (item, button) => {
    over.src = item.src;
    over.style = item.style;
    over.alt = right.textContent = item.name;
    caption.innerHTML = item.words;
    choices.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", b === button));
  };
  coded.forEach((item) => {
    const button = make("button", { type: "button", textContent: item.name });
    button.onclick = () => show(item, button);
    choices.append(button);
  });
  figure.prepend(choices, stage, caption);
  figure.classList.add("ready");
  const first = coded.findIndex((item) => item.name === figure.dataset.first);
  show(coded[Math.max(first, 0)], choices.children[Math.max(first, 0)]);
});
