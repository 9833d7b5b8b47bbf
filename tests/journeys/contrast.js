// Every visible text, empty radio, switch that is off and ring of focus whose contrast as drawn is below WCAG AA: its colour
// times its opacity, over all that is painted behind it. axe says nothing of what it finds covered, or behind
// a pseudo-element.
() => {
  const parse = (colour) => {
    const [r, g, b, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return colour.startsWith("color(") ? [r * 255, g * 255, b * 255, alpha] : [r, g, b, alpha];
  };
  const over = ([r, g, b, alpha], back) => [r, g, b].map((value, i) => value * alpha + back[i] * (1 - alpha));
  const light = (colour) => {
    const [r, g, b] = colour.map((v) =>
      v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4,
    );
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ancestors = (element) => (element ? [element, ...ancestors(element.parentElement)] : []);
  const root = document.documentElement;
  const behind = (element) =>
    ancestors(element)
      .map((each) => parse(getComputedStyle(each).backgroundColor))
      .concat([parse(getComputedStyle(document.querySelector(".stApp") ?? root).backgroundColor)])
      .reduceRight((back, colour) => over(colour, back), [255, 255, 255]);
  const ratio = (element, colour, opacity) => {
    const back = behind(element);
    const [r, g, b, alpha] = parse(colour);
    const [a, d] = [light(over([r, g, b, alpha * opacity], back)), light(back)];
    return (Math.max(a, d) + 0.05) / (Math.min(a, d) + 0.05);
  };

  const faint = [];
  const judge = (element, colour, text, needed) => {
    const opacity = ancestors(element).reduce((sum, each) => sum * getComputedStyle(each).opacity, 1);
    if (opacity < 0.05) return; // it shows when it is pointed at
    const found = ratio(element, colour, opacity);
    if (found < needed) faint.push(`${found.toFixed(2)}: ${text.trim().slice(0, 40)}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const { width, height } = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    const isSeen = width > 1 && height > 1 && style.visibility === "visible" && style.clipPath === "none";
    if (!texts.currentNode.data.trim() || !isSeen || element.closest(":disabled, script, style, noscript"))
      continue;
    const isIcon = element.matches('[data-testid="stIconMaterial"], .db-icon');
    const isLarge = parseFloat(style.fontSize) >= 24;
    judge(element, style.color, texts.currentNode.data, isIcon || isLarge ? 3 : 4.5);
  }
  // what is typed is no text node; like axe, this judges the colour of an empty field, too
  for (const field of document.querySelectorAll(
    "select, textarea, input:not([type=radio], [type=checkbox])",
  )) {
    judge(field, getComputedStyle(field).color, `the text of ${field.name || field.type}`, 4.5);
  }
  for (const field of document.querySelectorAll("[placeholder]")) {
    judge(field, getComputedStyle(field, "::placeholder").color, field.placeholder, 4.5);
  }
  for (const arrow of document.querySelectorAll('[data-testid="stChatInputSubmitButton"]:enabled svg')) {
    judge(arrow.parentElement, getComputedStyle(arrow).color, "the arrow of Send", 3);
  }
  for (const ring of document.querySelectorAll(
    '[data-testid="stRadioOption"]:not([data-selected]) > div > div:first-child',
  )) {
    judge(ring.parentElement, getComputedStyle(ring).borderTopColor, "an empty radio", 3);
  }
  for (const track of document.querySelectorAll('label:has([role="switch"]:not(:checked)) > span + div')) {
    judge(track.parentElement, getComputedStyle(track).backgroundColor, "a switch that is off", 3);
  }
  for (const ringed of ancestors(document.activeElement)) {
    const { outlineStyle, outlineColor } = getComputedStyle(ringed);
    if (outlineStyle === "solid" && ringed.parentElement)
      judge(ringed.parentElement, outlineColor, "a ring of focus", 3);
  }
  return faint;
};
