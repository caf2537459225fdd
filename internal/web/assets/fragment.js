// Copies the token of a one-time link from the fragment of the address, which is sent to nobody, into the field for it.
"use strict";

for (const field of document.querySelectorAll("input[data-fragment]")) {
  if (location.hash.length > 1) field.value = location.hash.slice(1);
}
