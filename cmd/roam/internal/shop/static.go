package shop

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed static
var staticFiles embed.FS

// An asset is a file that pages refer to by a path with the hash of its
// content in it, so that browsers may keep it for ever.
type asset struct {
	name, hash, path string
	content          []byte
}

var assets = readAssets()

func readAssets() map[string]asset {
	files, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		panic(err)
	}
	all := make(map[string]asset)
	for _, f := range files {
		content, err := staticFiles.ReadFile("static/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		hash := hex.EncodeToString(sum[:8])
		ext := path.Ext(f.Name())
		all[f.Name()] = asset{f.Name(), hash, "/static/" + strings.TrimSuffix(f.Name(), ext) + "." + hash + ext, content}
	}
	return all
}

// static serves an asset.
func (s *Shop) static(w http.ResponseWriter, r *http.Request) error {
	if !ServeAsset(w, r) {
		return errNoPage
	}
	return nil
}

// AssetPath is where a page finds an asset, such as the style sheet "shop.css".
func AssetPath(name string) string { return assets[name].path }

// ServeAsset serves the asset that the path value "file" names, and reports
// whether there is one. While servers are upgraded one by one, a page of one
// version may ask a server of another version for its style: an older or newer
// one is better than none, but is not to be kept under that name.
func ServeAsset(w http.ResponseWriter, r *http.Request) bool {
	base, rest, _ := strings.Cut(r.PathValue("file"), ".")
	hash, ext, _ := strings.Cut(rest, ".")
	a, ok := assets[base+"."+ext]
	if !ok {
		return false
	}
	h := w.Header()
	h.Set("ETag", `"`+a.hash+`"`)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	if hash != a.hash {
		h.Set("Cache-Control", "no-cache")
	}
	http.ServeContent(w, r, a.name, time.Time{}, bytes.NewReader(a.content))
	return true
}
