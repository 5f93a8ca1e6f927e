// xterm.js draws with <style> elements and style attributes, which our content security policy forbids. The same rules
// may come from adopted style sheets and from the object model, which a page's own script alone can reach: so that is
// where they are sent. The policy stays as strict as it is for all other pages.

/** Hand out, in place of `<style>` elements, inert ones whose text becomes a sheet of the document. */
function adoptStyleElements(): void {
  const create = document.createElement.bind(document) as (tag: string, options?: ElementCreationOptions) => HTMLElement;
  document.createElement = ((tag: string, options?: ElementCreationOptions) =>
    tag === "style" ? withOwnSheet(create("template")) : create(tag, options)) as typeof document.createElement;
}

function withOwnSheet(element: HTMLElement): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(element, "textContent", { set: (text: string) => sheet.replaceSync(text), get: () => "" });
  const remove = element.remove.bind(element);
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
    remove();
  };
  return element;
}

/** Send the colours of single cells, which xterm.js writes as an attribute, through the object model. */
function styleSpansByObject(): void {
  const set = Element.prototype.setAttribute;
  HTMLSpanElement.prototype.setAttribute = function (this: HTMLSpanElement, name: string, value: string): void {
    if (name === "style") this.style.cssText = value;
    else set.call(this, name, value);
  };
}

adoptStyleElements();
styleSpansByObject();
