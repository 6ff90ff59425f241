package synth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/toklip/toklip/model/checkpoint"
)

// golden is a file of the reference data.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../testdata/reference/golden", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustNew(t testing.TB, preset, salt string, text bool) *Checkpoint {
	t.Helper()
	cfg, err := Preset(preset)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(cfg, salt, text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeysEqualTokLIPs(t *testing.T) {
	for _, name := range []string{"tiny", "s256", "l384"} {
		var want [][3]any
		if err := json.Unmarshal(golden(t, name+"_keys.json"), &want); err != nil {
			t.Fatal(err)
		}
		got := mustNew(t, name, "", true).Tensors()
		if len(got) != len(want) {
			t.Errorf("%s: %d tensors, want %d", name, len(got), len(want))
		}
		for i := range min(len(got), len(want)) {
			var shape []int64
			for _, d := range want[i][1].([]any) {
				shape = append(shape, int64(d.(float64)))
			}
			if got[i].Name != want[i][0] || !slices.Equal(got[i].Shape, shape) || got[i].DType.String() != want[i][2] {
				t.Fatalf("%s: tensor %d is %v, want %v", name, i, got[i], want[i])
			}
		}
	}
}

// parseConfig reads the reference's description of a model, strictly.
func parseConfig(text []byte) (Config, error) {
	var c Config
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

func TestTinyConfigIsTheReferences(t *testing.T) {
	got, err := parseConfig(golden(t, "tiny_cfg.json"))
	if err != nil {
		t.Fatal(err)
	}
	want, _ := Preset("tiny")
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) {
		t.Errorf("tiny_cfg.json is %s, the preset %s", a, b)
	}
}

// The sums are those of the files that the reference's make_checkpoint.py writes.
func TestSafetensorsAreTheReferences(t *testing.T) {
	for _, c := range []struct {
		name, salt, only, sum string
	}{
		{"whole", "", "", "29fd6729ffa5c849e318ab9079ce24991fc49b0982f5a2b7f960b4f968ba523c"},
		{"--salt S1 --only visual.", "S1", "visual.", "e7e0ebd660db5a3f540ea3d0f44dbe1b3fcb74cf7fc149df9e7b3cfb97a67319"},
	} {
		var r checkpoint.Reader = mustNew(t, "tiny", c.salt, true)
		if c.only != "" {
			r = checkpoint.Select(r, func(name string) bool { return strings.HasPrefix(name, c.only) })
		}
		h := sha256.New()
		if err := checkpoint.WriteSafetensors(context.Background(), h, r, nil); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); got != c.sum {
			t.Errorf("%s: SHA-256 %s, want %s", c.name, got, c.sum)
		}
	}
}

// The reference's own tiny.safetensors was written by the safetensors library, which sorts by name and leaves
// out spaces. In that layout the file is byte-identical as well.
func TestTinyIsTheReferences(t *testing.T) {
	const sum = "5b4e8a088f58cd060c2fa4c7a66469361c9bb70066e74dbfa01c08ca5f23c98a"
	c := mustNew(t, "tiny", "", true)
	infos := c.Tensors()
	slices.SortFunc(infos, func(a, b checkpoint.Info) int { return strings.Compare(a.Name, b.Name) })
	var header, values bytes.Buffer
	for i, info := range infos {
		v := make([]float32, info.Len())
		if err := c.ReadFloat32(info.Name, v, 0); err != nil {
			t.Fatal(err)
		}
		begin := values.Len()
		if err := binary.Write(&values, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		shape, _ := json.Marshal(append([]int64{}, info.Shape...))
		fmt.Fprintf(&header, `%c%q:{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}`, "{,"[min(i, 1)], info.Name, shape, begin, values.Len())
	}
	header.WriteByte('}')
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}
	h := sha256.New()
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(header.Len())))
	h.Write(header.Bytes())
	h.Write(values.Bytes())
	if got := hex.EncodeToString(h.Sum(nil)); got != sum {
		t.Errorf("SHA-256 %s, want %s", got, sum)
	}
}

// Without text, the file is the one of --only visual.
func TestWithoutTextIsOnlyVisual(t *testing.T) {
	write := func(r checkpoint.Reader) string {
		var b bytes.Buffer
		if err := checkpoint.WriteSafetensors(context.Background(), &b, r, nil); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	visual := checkpoint.Select(mustNew(t, "tiny", "x", true), func(name string) bool { return strings.HasPrefix(name, "visual.") })
	if write(visual) != write(mustNew(t, "tiny", "x", false)) {
		t.Error("a model without text differs from the visual part of one with text")
	}
}

func TestRangesAgreeWithTheWhole(t *testing.T) {
	c := mustNew(t, "s256", "", false)
	const name = "visual.trunk.blocks.3.mlp.fc1.weight"
	info, ok := c.Lookup(name)
	if !ok {
		t.Fatal(name)
	}
	whole := make([]float32, info.Len())
	if err := c.ReadFloat32(name, whole, 0); err != nil {
		t.Fatal(err)
	}
	part := make([]float32, 1000)
	for _, at := range []int64{0, 1, piece - 1, info.Len() - 1000} {
		if err := c.ReadFloat32(name, part, at); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(part, whole[at:at+1000]) {
			t.Errorf("elements from %d on differ from those read at once", at)
		}
	}
	limit := float32(math.Sqrt(3.0 / 1152))
	if got := slices.Max(whole); got > limit || got < 0.99*limit {
		t.Errorf("largest value %v, want just below %v", got, limit)
	}
	for _, at := range []int64{-1, info.Len() - 999, math.MaxInt64} {
		if err := c.ReadFloat32(name, part, at); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("offset %d: error %v does not name the tensor", at, err)
		}
	}
	if err := c.ReadFloat32("nothing", part, 0); err == nil {
		t.Error("a tensor that does not exist was read")
	}
}

func TestSaltChangesValues(t *testing.T) {
	a, b := make([]float32, 16), make([]float32, 16)
	for salt, dst := range map[string][]float32{"": a, "other": b} {
		if err := mustNew(t, "tiny", salt, true).ReadFloat32("visual.trunk.pos_embed", dst, 0); err != nil {
			t.Fatal(err)
		}
	}
	if slices.Equal(a, b) {
		t.Error("another salt gave the same values")
	}
}

func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		cfg, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Preset("huge"); err == nil || !strings.Contains(err.Error(), `"huge"`) {
		t.Errorf("unknown preset: %v", err)
	}
	demo, _ := Preset("demo")
	if demo.Grid() != 8 || demo.hidden(demo.Dim) != 768 || demo.Dim/demo.Heads != 64 {
		t.Errorf("demo: grid %d, hidden %d", demo.Grid(), demo.hidden(demo.Dim))
	}
}

func TestConfigRefuses(t *testing.T) {
	good := string(golden(t, "tiny_cfg.json"))
	for _, c := range []struct{ old, new, want string }{
		{`"img"`, `"image"`, `unknown field "image"`},
		{`"img": 64`, `"img": 72`, "img = 72 cannot be halved 4 times"},
		{`"heads": 4, "mlp`, `"heads": 5, "mlp`, "heads = 5 do not divide dim = 96"},
		{`"ch": 32`, `"ch": 33`, "ch = 33 must be a multiple of 32"},
		{`"dim": 96`, `"dim": 0`, "dim = 0 must be from 1"},
		{`"mlp_ratio": 3.7362`, `"mlp_ratio": -1`, "mlp_ratio = -1"},
		{`"layers": 2`, `"layers": -2`, "text ="},
		{`[1, 1, 1, 1, 2]`, `[]`, "mult = [] must have"},
		{`"img": 64`, `"img": 16777216`, `tensor "visual.trunk.pos_embed" would have shape [1 1099511627776 96]`},
		{`"ch": 32`, `"ch": 1048576`, `conv1.weight" would have shape [1048576 1048576 3 3]`},
	} {
		if !strings.Contains(good, c.old) {
			t.Fatalf("%q is not in the reference config", c.old)
		}
		_, err := parseConfig([]byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.new, err, c.want)
		}
	}
}

func TestWriteStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	path := filepath.Join(t.TempDir(), "x.safetensors")
	err := checkpoint.WriteSafetensorsFile(ctx, path, mustNew(t, "tiny", "", true), func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func BenchmarkReadFloat32(b *testing.B) {
	c := mustNew(b, "s256", "", false)
	dst := make([]float32, 1<<20)
	b.SetBytes(int64(4 * len(dst)))
	for b.Loop() {
		if err := c.ReadFloat32("visual.trunk.blocks.0.mlp.fc1.weight", dst, 0); err != nil {
			b.Fatal(err)
		}
	}
}
