package token

// PackBits packs the bits of a status list.
var PackBits = packBits
