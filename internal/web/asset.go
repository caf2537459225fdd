package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

type asset struct {
	path string // "/assets/cardea.1f2e3d4c5b6a7988.css"
	kind string
	body []byte
}

// kinds are the media types of the assets by extension. The operating system's table is not used.
var kinds = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// assets are the files of the pages, by name. Each path contains a hash of the content, so that a browser may cache it
// forever.
var assets = func() map[string]asset {
	found := map[string]asset{}
	entries, err := assetFiles.ReadDir("assets")
	if err != nil {
		panic(err) // cannot happen: the files are embedded in the program
	}
	for _, entry := range entries {
		body, err := assetFiles.ReadFile("assets/" + entry.Name())
		if err != nil {
			panic(err)
		}
		found[entry.Name()] = newAsset(entry.Name(), body)
	}
	return found
}()

// newAsset returns the asset that a file with that name is.
func newAsset(name string, body []byte) asset {
	sum := sha256.Sum256(body)
	ext := path.Ext(name)
	return asset{
		path: "/assets/" + strings.TrimSuffix(name, ext) + "." + hex.EncodeToString(sum[:8]) + ext,
		kind: kinds[ext],
		body: body,
	}
}

func assetPath(name string) string { return assets[name].path }

// Assets returns the route of the style sheets, scripts and images of the pages, and of the brand, below /assets/. It
// ignores Range, because the files are small. brand may be nil.
func Assets(brand *Brand) Route {
	byPath := map[string]asset{}
	if brand != nil {
		for _, a := range brand.assets {
			byPath[a.path] = a
		}
	}
	for _, a := range assets {
		byPath[a.path] = a
	}
	serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := byPath["/assets/"+r.PathValue("file")]
		if !ok {
			failJSON(w, r, errNothing)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.kind)
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		_, _ = w.Write(a.body) // an error means that the browser has disconnected
	})
	return Route{
		Path: "/assets/{file}", Methods: Methods{http.MethodGet: serve}, Caller: Anybody,
		Cache: "public, max-age=31536000, immutable", // because a changed file has another name
	}
}
