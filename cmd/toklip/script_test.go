package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/toklip/toklip/engine/onnxruntime"
	"github.com/toklip/toklip/model/checkpoint"
	"github.com/toklip/toklip/model/npy"
	"github.com/toklip/toklip/model/synth"
	"github.com/toklip/toklip/trt/trttest"
)

// reference is the folder of reference data.
func reference(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", "..", "testdata", "reference"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestScripts types command lines and looks at what comes of them: testdata/script/*.txtar, one story a file.
func TestScripts(t *testing.T) {
	library, err := onnxruntime.FindLibrary("")
	if err != nil {
		t.Fatal(err)
	}
	ref := reference(t)
	shim := trttest.Shim(t)
	rtxShim, rtxLib := trttest.RealShim(t, "rtx-1.7"), trttest.Nvidia(t, "rtx-1.7", "lib")
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TOKLIP_ONNXRUNTIME", library)
			env.Setenv("TRT_SHIM", shim)
			env.Setenv("RTX_SHIM", rtxShim)
			env.Setenv("RTX_LIB", rtxLib)
			env.Setenv("REF", ref)
			env.Setenv("CONFIGS", filepath.Join(ref, "..", "..", "configs"))
			env.Setenv("CACHE", filepath.Join(env.WorkDir, "cache"))
			env.Setenv("HF_TOKEN", "")
			env.Setenv("HF_ENDPOINT", "")
			return startHub(env)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"array": cmdArray, "corrupt": cmdCorrupt, "empty": cmdEmpty, "exits": cmdExits, "field": cmdField, "picture": cmdPicture,
			"requests": cmdRequests, "sha256": cmdSHA256, "size": cmdSize, "toklip-only": cmdTokLIPOnly, "waitfor": cmdWaitFor,
		},
	})
}

func need(ts *testscript.TestScript, neg bool, args []string, usage string) {
	if neg || len(args) != len(strings.Fields(usage)) {
		ts.Fatalf("usage: %s", usage)
	}
}

// cmdExits checks the exit code of a toklip command: exits CODE ARG...
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	err := ts.Exec("toklip", args[1:]...)
	code := 0
	if err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("toklip did not run: %v", err)
		}
		code = exit.ExitCode()
	}
	if got := fmt.Sprint(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// cmdSHA256 compares a file's hash: sha256 FILE HASH
func cmdSHA256(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "FILE HASH")
	sum := sha256.Sum256([]byte(ts.ReadFile(args[0])))
	if got := hex.EncodeToString(sum[:]); got != args[1] {
		ts.Fatalf("%s has SHA-256 %s, want %s", args[0], got, args[1])
	}
}

// cmdCorrupt flips a bit in the middle of a file: corrupt FILE
func cmdCorrupt(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "FILE")
	content := []byte(ts.ReadFile(args[0]))
	content[len(content)/2] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o644))
}

// cmdEmpty checks that nothing is left in a folder, hidden files included: empty DIR
func cmdEmpty(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "DIR")
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(entries) > 0 {
		ts.Fatalf("%s holds %v", args[0], entries)
	}
}

// cmdSize checks the size of a PNG file: size FILE WIDTHxHEIGHT
func cmdSize(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "FILE SIZE")
	header, format, err := image.DecodeConfig(strings.NewReader(ts.ReadFile(args[0])))
	ts.Check(err)
	if got := fmt.Sprintf("%dx%d", header.Width, header.Height); got != args[1] || format != "png" {
		ts.Fatalf("%s is a %s of %s, want a png of %s", args[0], format, got, args[1])
	}
}

// cmdField prints a field of a JSON object, named by a path of keys, or compares it: field FILE KEY.KEY [VALUE]
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: field FILE KEY.KEY [VALUE]")
	}
	var value any
	d := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	d.UseNumber()
	ts.Check(d.Decode(&value))
	for _, key := range strings.Split(args[1], ".") {
		object, ok := value.(map[string]any)
		if ok {
			value, ok = object[key]
		}
		if !ok {
			ts.Fatalf("%s: no field %s", args[0], args[1])
		}
	}
	got := fmt.Sprint(value)
	switch {
	case len(args) == 2:
		_, err := fmt.Fprintln(ts.Stdout(), got)
		ts.Check(err)
	case (got == args[2]) == neg:
		ts.Fatalf("%s: %s is %s", args[0], args[1], got)
	}
}

// cmdArray writes a .npy file: array KIND FILE, for kinds of tensor that models take and that they do not.
func cmdArray(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "KIND FILE")
	images := append(synth.Image(0, 64), synth.Smooth(0, 64)...)
	shape := []int{2, 3, 64, 64}
	switch args[0] {
	case "good":
	case "none":
		images, shape = nil, []int{0, 3, 64, 64}
	case "small":
		images, shape = images[:2*3*32*32], []int{2, 3, 32, 32}
	case "flat":
		shape = []int{2 * 3 * 64 * 64}
	case "levels":
		for i := len(images) / 2; i < len(images); i++ {
			images[i] = (images[i] + 1) * 127.5
		}
	case "bytes":
		a, err := npy.New(shape, make([]uint8, len(images)))
		ts.Check(err)
		ts.Check(a.Save(ts.MkAbs(args[1])))
		return
	default:
		ts.Fatalf("unknown kind %q", args[0])
	}
	ts.Check(npy.WriteFloat32(ts.MkAbs(args[1]), shape, images))
}

// cmdPicture writes an image file: picture KIND FILE
func cmdPicture(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "KIND FILE")
	waves := image.NewNRGBA(image.Rect(0, 0, 120, 90))
	for y := range 90 {
		for x := range 120 {
			waves.SetNRGBA(x, y, color.NRGBA{R: byte(2 * x), G: byte(2 * y), B: byte(x * y / 40), A: 255})
		}
	}
	clear := color.NRGBA{R: 200, G: 100, B: 50} // transparent, yet coloured
	var buf bytes.Buffer
	switch args[0] {
	case "png":
		ts.Check(png.Encode(&buf, waves))
	case "jpeg":
		ts.Check(jpeg.Encode(&buf, waves, &jpeg.Options{Quality: 90}))
	case "cut":
		ts.Check(png.Encode(&buf, waves))
		buf.Truncate(buf.Len() / 2)
	case "transparent":
		out := image.NewNRGBA(image.Rect(0, 0, 40, 40))
		for i := range 40 * 40 {
			out.SetNRGBA(i%40, i/40, clear)
		}
		ts.Check(png.Encode(&buf, out))
	case "transparent-palette":
		ts.Check(png.Encode(&buf, image.NewPaletted(image.Rect(0, 0, 40, 40), color.Palette{clear, color.NRGBA{A: 255}})))
	case "opaque":
		clear.A = 255
		out := image.NewNRGBA(image.Rect(0, 0, 40, 40))
		for i := range 40 * 40 {
			out.SetNRGBA(i%40, i/40, clear)
		}
		ts.Check(png.Encode(&buf, out))
	case "huge":
		buf.Write(emptyPNG(200_000, 200_000))
	case "large": // within the limit, but without the data
		buf.Write(emptyPNG(16384, 16384))
	default:
		ts.Fatalf("unknown kind %q", args[0])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), buf.Bytes(), 0o644))
}

// emptyPNG is a PNG file that claims a size and holds no pixels.
func emptyPNG(width, height uint32) []byte {
	out := []byte("\x89PNG\r\n\x1a\n")
	chunk := func(body []byte) { // body begins with the chunk's type
		out = binary.BigEndian.AppendUint32(out, uint32(len(body)-4))
		out = append(out, body...)
		out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
	}
	size := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), width), height)
	chunk(append(size, 8, 2, 0, 0, 0))
	chunk([]byte("IDAT\x78\x9c\x03\x00\x00\x00\x00\x01")) // zlib's stream of nothing
	chunk([]byte("IEND"))
	return out
}

// cmdTokLIPOnly writes the tiny checkpoint less its VQ tokenizer: toklip-only FILE
func cmdTokLIPOnly(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "FILE")
	arch, err := synth.Preset("tiny")
	ts.Check(err)
	weights, err := synth.New(arch, "", true)
	ts.Check(err)
	without := checkpoint.Select(weights, func(name string) bool { return !strings.HasPrefix(name, "visual.trunk.vq.") })
	ts.Check(checkpoint.WriteSafetensorsFile(context.Background(), ts.MkAbs(args[0]), without, nil))
}

// cmdWaitFor waits until a file has so many bytes: waitfor FILE BYTES
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, "FILE BYTES")
	var want int64
	_, err := fmt.Sscan(args[1], &want)
	ts.Check(err)
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if info, err := os.Stat(ts.MkAbs(args[0])); err == nil && info.Size() >= want {
			return
		}
	}
	ts.Fatalf("%s did not reach %d bytes in 30 s", args[0], want)
}
