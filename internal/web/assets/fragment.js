// Copies the token of a one-time link from the fragment of the address, which is sent to nobody, into the field for it,
// and hides that field, because people have nothing to do with it.
"use strict";

for (const field of document.querySelectorAll("input[data-fragment]")) {
  if (location.hash.length < 2) continue;
  field.value = location.hash.slice(1);
  field.closest(".field").hidden = true;
}

// Of a page with two forms, shows the one that the address is for.
for (const part of document.querySelectorAll("[data-with-fragment]")) part.hidden = location.hash.length < 2;
for (const part of document.querySelectorAll("[data-without-fragment]")) part.hidden = location.hash.length > 1;
