// For the other scripts, and for those that a component brings.

window.daybook = {
  // React hears of a value only this way.
  typeInto(field, text) {
    const { set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
    set.call(field, text);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  },
};
