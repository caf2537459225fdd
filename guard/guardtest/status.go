package guardtest

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// statusPath is the path of the status list.
const statusPath = "/oauth2/status/1"

// statusPlaces is the number of places in the status list.
const statusPlaces = 1 << 20

// placeOf returns the place of a token in the status list, and whether it has one.
func placeOf(token string) (place int, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0, false
	}
	var claims struct {
		Status struct {
			List *struct {
				Index int `json:"idx"`
			} `json:"status_list"`
		} `json:"status"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Status.List == nil {
		return 0, false
	}
	place = claims.Status.List.Index
	return place, place >= 0 && place < statusPlaces
}

// statusList answers with the status list (Token Status List, draft-ietf-oauth-status-list).
func (i *Issuer) statusList(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	now, marked := i.now(), i.marked
	etag := fmt.Sprintf("%q", fmt.Sprint(len(marked), i.keys[len(i.keys)-1].id))
	i.mu.Unlock()
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/statuslist+jwt")
	_, _ = w.Write([]byte(i.Sign(map[string]any{"typ": "statuslist+jwt"}, map[string]any{
		"sub": i.URL + statusPath, "iat": now.Unix(), "ttl": 2,
		"status_list": map[string]any{"bits": 1, "lst": StatusList(marked...)},
	})))
}

// StatusList returns the lst of a status list of one bit each, in which the tokens at the places revoked do not count.
func StatusList(revoked ...int) string {
	statuses := make([]byte, statusPlaces/8)
	for _, place := range revoked {
		statuses[place/8] |= 1 << (place % 8)
	}
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(statuses); err != nil {
		panic(err)
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(packed.Bytes())
}
