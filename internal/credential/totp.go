package credential

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238; most apps know nothing else, and the secret is as long as its output
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"

	qr "github.com/piglig/go-qr"
)

// The parameters of the codes, which all authenticator apps know (RFC 6238 §4).
const (
	totpPeriod = 30 // seconds
	TOTPDigits = 6
	TOTPSecret = 20 // bytes of the secret
)

// NewTOTPSecret returns a new secret that an authenticator app and this server share.
func NewTOTPSecret() []byte {
	secret := make([]byte, TOTPSecret)
	_, _ = rand.Read(secret) // crypto/rand never fails
	return secret
}

// totpCode returns the code of a time step (RFC 4226 §5.3).
func totpCode(secret []byte, step int64) string {
	mac := hmac.New(sha1.New, secret)
	_ = binary.Write(mac, binary.BigEndian, uint64(step)) //nolint:gosec // steps are positive
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	number := binary.BigEndian.Uint32(sum[at:at+4]) & 0x7fffffff
	return fmt.Sprintf("%0*d", TOTPDigits, number%1_000_000)
}

// TOTPStep returns the time step whose code is code: that of now, or the one before or after it, because clocks differ
// and people type slowly (RFC 6238 §5.2). ok is false if it is none of them.
func TOTPStep(secret []byte, code string, now time.Time) (step int64, ok bool) {
	current := now.Unix() / totpPeriod
	for _, candidate := range []int64{current - 1, current, current + 1} {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, candidate)), []byte(code)) == 1 {
			step, ok = candidate, true
		}
	}
	return step, ok
}

// Readable returns a secret as people type it into an app: base32 in groups of four.
func Readable(secret []byte) string {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	var groups []string
	for len(text) > 4 {
		groups, text = append(groups, text[:4]), text[4:]
	}
	return strings.Join(append(groups, text), " ")
}

// TOTPURL returns the address that sets an authenticator app up.
func TOTPURL(secret []byte, server, account string) string {
	u := url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + server + ":" + account}
	u.RawQuery = url.Values{
		"secret": {strings.ReplaceAll(Readable(secret), " ", "")}, "issuer": {server},
		"algorithm": {"SHA1"}, "digits": {fmt.Sprint(TOTPDigits)}, "period": {fmt.Sprint(totpPeriod)},
	}.Encode()
	u.RawQuery = strings.ReplaceAll(u.RawQuery, "+", "%20") // apps show the plus sign
	return u.String()
}

// QRCode returns the QR code of an address, which an authenticator app scans, as an SVG element.
func QRCode(address string) (string, error) {
	code, err := qr.EncodeText(address, qr.Medium)
	if err != nil {
		return "", fmt.Errorf("credential: QR code: %w", err)
	}
	size := code.Size()
	const border = 4 // modules, as ISO/IEC 18004 demands
	var path strings.Builder
	for y := range size {
		for x := range size {
			if code.Module(x, y) {
				fmt.Fprintf(&path, "M%d,%dh1v1h-1z", x+border, y+border)
			}
		}
	}
	return fmt.Sprintf(`<svg class="qr" role="img" aria-label="QR code for an authenticator app" `+
		`viewBox="0 0 %[1]d %[1]d" width="220" height="220"><rect width="%[1]d" height="%[1]d" fill="#fff"/>`+
		`<path d="%[2]s" fill="#000"/></svg>`, size+2*border, path.String()), nil
}
