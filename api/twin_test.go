package api_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/toklip/toklip/api"
	"github.com/toklip/toklip/api/toklipv1"
)

// header fills every field with something else, so that a forgotten one shows.
func header(t testing.TB) *toklipv1.Header {
	h := &toklipv1.Header{
		Schema: 1, Node: "robot-1", Camera: "front", BootId: "b0071d", Sequence: 1<<53 + 1,
		CaptureWallNs: 1_790_000_000_123_456_789, Clock: "driver", CaptureMonoNs: 12_345_678_901, CaptureErrorNs: 5_000_000,
		PublishNs: 1_790_000_000_223_456_789,
		Stages:    &toklipv1.Stages{AgeNs: 1, WaitNs: 2, PreprocessNs: 3, TokenizeNs: 4, QueueNs: 5, EncodeNs: 6, LabelNs: 7, TotalNs: 8},
		Width:     1920, Height: 1080, Resize: "shortest", Window: &toklipv1.Window{X: 420, Y: -0.5, Width: 1080, Height: 1080.25},
		Drops: &toklipv1.Drops{Capture: 1, Queue: 2, Rate: 3, Invalid: 4, Failed: 5, Closed: 6, Publish: 7, Broker: math.MaxUint64},
		Model: "a1b2c3", Codebook: "d4e5f6", LabelSet: "l1", EmbeddingSpace: "space", Backend: "onnxruntime", Precision: "int8",
		Keyframe: true, Reused: true, StaleAfterMs: 2000, FrameId: "front_optical",
	}
	for m, rm := range map[string]proto.Message{"header": h, "stages": h.Stages, "window": h.Window, "drops": h.Drops} {
		fields := rm.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if !rm.ProtoReflect().Has(fields.Get(i)) {
				t.Fatalf("%s.%s is not covered by the tests", m, fields.Get(i).Name())
			}
		}
	}
	return h
}

func tokens(t testing.TB, rows, cols int) *toklipv1.Tokens {
	r := rand.New(rand.NewPCG(3, 4))
	ids := make([]int32, rows*cols)
	for i := range ids {
		ids[i] = r.Int32N(16384)
	}
	changed := make([]uint64, (len(ids)+63)/64)
	for i := 0; i < len(ids); i += 3 {
		changed[i/64] |= 1 << (i % 64)
	}
	m := &toklipv1.Tokens{Header: header(t)}
	if err := api.SetTokens(m, rows, cols, 16384, ids, changed); err != nil {
		t.Fatal(err)
	}
	return m
}

func embedding(t testing.TB, dtype toklipv1.DType, normalize bool) *toklipv1.Embedding {
	r := rand.New(rand.NewPCG(5, 6))
	v := make([]float32, 1152)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	v[0], v[1], v[2] = 0, 1e-7, -3e-8
	m := &toklipv1.Embedding{Header: header(t)}
	if err := api.SetEmbedding(m, v, dtype, normalize); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTwinsRoundTrip(t *testing.T) {
	tok := tokens(t, 16, 16)
	b, err := api.AppendTokensJSON(nil, tok)
	if err != nil {
		t.Fatal(err)
	}
	back, err := api.ParseTokensJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(tok, back) {
		t.Errorf("tokens come back as\n%v\nwant\n%v", back, tok)
	}
	for _, dtype := range []toklipv1.DType{toklipv1.DType_DTYPE_FP16, toklipv1.DType_DTYPE_FP32} {
		for _, normalize := range []bool{false, true} {
			emb := embedding(t, dtype, normalize)
			b, err := api.AppendEmbeddingJSON(nil, emb)
			if err != nil {
				t.Fatal(err)
			}
			back, err := api.ParseEmbeddingJSON(b)
			if err != nil || !proto.Equal(emb, back) {
				t.Errorf("embedding %v comes back different: %v", dtype, err)
			}
			v, err := api.EmbeddingVector(nil, emb)
			if err != nil {
				t.Fatal(err)
			}
			var sum float64
			for _, f := range v {
				sum += float64(f) * float64(f)
			}
			if normalize && math.Abs(sum-1) > 2e-3 {
				t.Errorf("normalised embedding has length² %v", sum)
			}
		}
	}
	labels := &toklipv1.Labels{Header: header(t), Labels: []*toklipv1.Label{
		{Label: "a \"cat\" & <dog>\n日本", Cosine: 0.123, Logit: -4.5, Score: 1.1e-8}, {Label: "none"},
		{Label: "cat", Score: 0.9, Present: true, SinceNs: 1_790_000_000_123_456_789, Region: "the \"door\""}}}
	b, err = api.AppendLabelsJSON(nil, labels)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := api.ParseLabelsJSON(b); err != nil || !proto.Equal(labels, back) {
		t.Errorf("labels come back as %v, %v", back, err)
	}
}

// The shape that scripts rely on, read as a script would.
func TestTwinShape(t *testing.T) {
	b, err := api.AppendTokensJSON(nil, tokens(t, 4, 4))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	if got := m["grid"]; !reflect.DeepEqual(got, []any{4.0, 4.0}) {
		t.Errorf("grid = %v", got)
	}
	if got := m["tokens"].([]any); len(got) != 16 {
		t.Errorf("%d tokens", len(got))
	}
	if got := m["changed"]; !reflect.DeepEqual(got, []any{0.0, 3.0, 6.0, 9.0, 12.0, 15.0}) {
		t.Errorf("changed = %v", got)
	}
	if !bytes.HasPrefix(b, []byte(`{"header":{"schema":1,"node":"robot-1","camera":"front",`)) {
		t.Errorf("twin begins with %.80s", b)
	}
}

// The bytes and the text of labels, worked out by hand: they pin the numbers of the fields
// and the members that are left out.
func TestLabelsLayout(t *testing.T) {
	m := &toklipv1.Labels{Header: &toklipv1.Header{Schema: 1}, Labels: []*toklipv1.Label{
		{Label: "cat", Cosine: 0.5, Logit: 2, Score: 0.75, Present: true, SinceNs: 0x0102030405060708, Region: "door"},
		{Label: "dog"},
	}}
	got, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	want := "0a02" + "0801" + // header: schema 1
		"1225" + "0a03636174" + "150000003f" + "1d00000040" + "250000403f" + // cat; cosine, logit, score as fixed32
		"2801" + "310807060504030201" + "3a04646f6f72" + // present, since_ns as sfixed64, region
		"1205" + "0a03646f67"
	if hex.EncodeToString(got) != want {
		t.Errorf("labels are %x, want %s", got, want)
	}
	text, err := api.AppendLabelsJSON(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, labels, _ := strings.Cut(string(text), `,"labels":`); labels != `[{"label":"cat","cosine":0.5,"logit":2,"score":0.75,"present":true,"since_ns":72623859790382856,"region":"door"},`+
		`{"label":"dog","cosine":0,"logit":0,"score":0,"present":false}]}` {
		t.Errorf("labels are written as %s", labels)
	}
}

// The names in JSON are those of the schema, in its order; enums and flags aside.
func TestTwinNamesFollowSchema(t *testing.T) {
	b, err := api.AppendTokensJSON(nil, tokens(t, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	var m struct{ Header map[string]json.RawMessage }
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	fields := (&toklipv1.Header{}).ProtoReflect().Descriptor().Fields()
	if fields.Len() != len(m.Header) {
		t.Errorf("JSON header has %d members, schema has %d fields", len(m.Header), fields.Len())
	}
	for i := range fields.Len() {
		if _, ok := m.Header[string(fields.Get(i).Name())]; !ok {
			t.Errorf("JSON header lacks %q", fields.Get(i).Name())
		}
	}
}

func TestTwinsRefuse(t *testing.T) {
	h := `{"header":{"schema":1},`
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(api.ParseTokensJSON([]byte(`{"grid":[1,1],"tokens":[0],"codebook_size":2}`))), "no header"},
		{second(api.ParseTokensJSON([]byte(h + `"grid":[1,2],"tokens":[0],"codebook_size":2}`))), "1 ids for a grid of 1x2"},
		{second(api.ParseTokensJSON([]byte(h + `"grid":[1],"tokens":[0],"codebook_size":2}`))), "grid has 1 numbers"},
		{second(api.ParseTokensJSON([]byte(h + `"grid":[1,1],"tokens":[2],"codebook_size":2}`))), "outside the codebook"},
		{second(api.ParseTokensJSON([]byte(h + `"grid":[1,1],"tokens":[1],"changed":[1],"codebook_size":2}`))), "changed cell 1"},
		{second(api.ParseTokensJSON([]byte(h + `"grid":[-1,-1],"tokens":[1],"codebook_size":2}`))), "grid of -1x-1"},
		{second(api.ParseEmbeddingJSON([]byte(h + `"embedding":[1],"dtype":"int8"}`))), `"int8" is unknown`},
		{second(api.ParseEmbeddingJSON([]byte(h + `"embedding":[1e30],"dtype":"fp16"}`))), "too great for fp16"},
		{second(api.ParseLabelsJSON([]byte(`{"header":{"schema":"x"}}`))), `"header.schema"`},
		{second(api.AppendEmbeddingJSON(nil, &toklipv1.Embedding{Header: header(t), Dim: 1, Dtype: 2, Data: []byte{0, 0, 0xc0, 0x7f}})), "NaN"},
		{second(api.AppendEmbeddingJSON(nil, &toklipv1.Embedding{Header: header(t), Dim: 2, Dtype: 2, Data: make([]byte, 4)})), "4 bytes for 2 elements"},
		{second(api.AppendTokensJSON(nil, &toklipv1.Tokens{Rows: 1, Cols: 1, CodebookSize: 2, Bits: 1, Packed: []byte{0}, Changed: []byte{0}})), "no header"},
		{api.SetEmbedding(&toklipv1.Embedding{}, make([]float32, 3), 1, true), "cannot be normalised"},
		{api.CheckHeader(nil), "no header"},
		{api.CheckHeader(&toklipv1.Header{Schema: 2}), "schema 2"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v does not say %q", c.err, c.want)
		}
	}
}

func TestCopyHeader(t *testing.T) {
	src, dst := header(t), &toklipv1.Header{Stages: &toklipv1.Stages{AgeNs: 9}}
	api.CopyHeader(dst, src)
	if !proto.Equal(dst, src) {
		t.Errorf("copy = %v\nwant   %v", dst, src)
	}
	src.Drops.Queue++
	if dst.Drops.Queue == src.Drops.Queue {
		t.Error("copy shares memory with its source")
	}
	if n := testing.AllocsPerRun(100, func() { api.CopyHeader(dst, src) }); n != 0 {
		t.Errorf("copying allocates %v times", n)
	}
	api.CopyHeader(dst, &toklipv1.Header{Node: "x"})
	if !proto.Equal(dst, &toklipv1.Header{Node: "x"}) {
		t.Errorf("copy of a short header = %v", dst)
	}
}

func TestFeatures(t *testing.T) {
	v := []float32{1, -2, 0.5, 3, 4, 5}
	m := &toklipv1.Features{}
	if err := api.SetFeatures(m, v, 2, toklipv1.DType_DTYPE_FP16); err != nil {
		t.Fatal(err)
	}
	if m.Rows != 2 || m.Dim != 3 {
		t.Errorf("features are %dx%d", m.Rows, m.Dim)
	}
	if got, err := api.FeatureVectors(nil, m); err != nil || !slices.Equal(got, v) {
		t.Errorf("features = %v, %v", got, err)
	}
	if err := api.SetFeatures(m, v, 4, toklipv1.DType_DTYPE_FP16); err == nil {
		t.Error("6 elements for 4 tokens are accepted")
	}
	if _, err := api.FeatureVectors(nil, &toklipv1.Features{Rows: 1 << 31, Dim: 1 << 31, Dtype: 1}); err == nil {
		t.Error("absurd sizes are accepted")
	}
}

// Encoding a frame's messages into used buffers allocates nothing.
func TestEncodingAllocatesNothing(t *testing.T) {
	tok, emb := tokens(t, 16, 16), embedding(t, toklipv1.DType_DTYPE_FP16, false)
	ids, _ := api.TokenIDs(nil, tok)
	vec, _ := api.EmbeddingVector(nil, emb)
	changed := make([]uint64, 4)
	labels := &toklipv1.Labels{Header: header(t), Labels: []*toklipv1.Label{{Label: "cat", Score: 0.9, Present: true, SinceNs: 7, Region: "door"}}}
	a, b, c := make([]byte, 0, 1<<16), make([]byte, 0, 1<<16), make([]byte, 0, 1<<16)
	n := testing.AllocsPerRun(50, func() {
		if api.SetTokens(tok, 16, 16, 16384, ids, changed) != nil || api.SetEmbedding(emb, vec, toklipv1.DType_DTYPE_FP16, true) != nil {
			t.Error("encoding fails")
		}
		a, _ = api.AppendTokensJSON(a[:0], tok)
		b, _ = api.AppendEmbeddingJSON(b[:0], emb)
		c, _ = proto.MarshalOptions{}.MarshalAppend(c[:0], tok)
		c, _ = api.AppendLabelsJSON(c[:0], labels)
		c, _ = proto.MarshalOptions{}.MarshalAppend(c[:0], labels)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The committed Go code is what the schema generates.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("protoc is not installed (apt-get install protobuf-compiler)")
	}
	if testing.Short() {
		t.Skip("builds protoc-gen-go the first time")
	}
	check(t, "../tools/proto.sh", "--check")
}

func FuzzTokens(f *testing.F) {
	seed, err := proto.Marshal(tokens(f, 4, 4))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		var m toklipv1.Tokens
		if proto.Unmarshal(data, &m) != nil {
			return
		}
		ids, err := api.TokenIDs(nil, &m)
		if err != nil {
			if ids != nil {
				t.Error("ids beside an error")
			}
			return
		}
		if _, err := api.ChangedCells(nil, &m); err != nil || m.Header == nil {
			return
		}
		again := &toklipv1.Tokens{Header: m.Header}
		cells, _ := api.ChangedCells(nil, &m)
		changed := make([]uint64, (len(ids)+63)/64)
		for _, c := range cells {
			changed[c/64] |= 1 << (c % 64)
		}
		if err := api.SetTokens(again, int(m.Rows), int(m.Cols), int(m.CodebookSize), ids, changed); err != nil {
			t.Fatalf("decoded message cannot be encoded: %v", err)
		}
		if !bytes.Equal(again.Packed, m.Packed) || !bytes.Equal(again.Changed, m.Changed) {
			t.Error("message changed on the way")
		}
		b, err := api.AppendTokensJSON(nil, &m)
		if err == nil && !json.Valid(b) {
			t.Errorf("twin is not JSON: %s", b)
		}
	})
}

func FuzzTwins(f *testing.F) {
	a, _ := api.AppendTokensJSON(nil, tokens(f, 4, 4))
	b, _ := api.AppendEmbeddingJSON(nil, embedding(f, toklipv1.DType_DTYPE_FP16, true))
	c, _ := api.AppendLabelsJSON(nil, &toklipv1.Labels{Header: header(f), Labels: []*toklipv1.Label{{Label: "x", Score: 0.5, Present: true, SinceNs: 7, Region: "door"}}})
	for _, seed := range [][]byte{a, b, c, []byte(`{"header":{},"grid":[1,1],"tokens":[0],"changed":[],"codebook_size":1}`)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := api.ParseTokensJSON(data); err == nil {
			again, err := api.AppendTokensJSON(nil, m)
			if err != nil {
				t.Fatalf("read tokens cannot be written: %v", err)
			}
			if back, err := api.ParseTokensJSON(again); err != nil || !proto.Equal(m, back) {
				t.Fatalf("tokens changed on the way: %v", err)
			}
		}
		if m, err := api.ParseEmbeddingJSON(data); err == nil {
			again, err := api.AppendEmbeddingJSON(nil, m)
			if err != nil {
				t.Fatalf("read embedding cannot be written: %v", err)
			}
			if back, err := api.ParseEmbeddingJSON(again); err != nil || !proto.Equal(m, back) {
				t.Fatalf("embedding changed on the way: %v", err)
			}
		}
		if m, err := api.ParseLabelsJSON(data); err == nil {
			again, err := api.AppendLabelsJSON(nil, m)
			if err != nil {
				t.Fatalf("read labels cannot be written: %v", err)
			}
			if back, err := api.ParseLabelsJSON(again); err != nil || !proto.Equal(m, back) {
				t.Fatalf("labels changed on the way: %v", err)
			}
		}
	})
}

func FuzzParseTopic(f *testing.F) {
	f.Add("toklip/n/camera/c/tokens/json")
	f.Fuzz(func(t *testing.T, topic string) {
		p, ok := api.ParseTopic(api.DefaultPrefix, topic)
		if !ok {
			return
		}
		topics, err := api.NewTopics("", p.Node)
		if err != nil {
			t.Fatal(err)
		}
		built := topics.Camera(p.Camera, p.Kind)
		switch {
		case p.Kind == api.KindCommand:
			built = topics.Command(p.Verb)
		case p.Camera == "":
			built = "toklip/" + p.Node + "/" + string(p.Kind)
		}
		if built != topic {
			t.Errorf("%q was taken apart into %+v, which is %q", topic, p, built)
		}
	})
}

func BenchmarkPack(b *testing.B) {
	ids, err := api.TokenIDs(nil, tokens(b, 16, 16))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1024)
	out := make([]int32, 0, 256)
	b.Run("pack256", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = api.AppendPackedTokens(buf[:0], ids, 14)
		}
		if len(buf) != 448 {
			b.Fatal(len(buf))
		}
	})
	b.Run("unpack256", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out, _ = api.AppendUnpackedTokens(out[:0], buf, 256, 14)
		}
		if !slices.Equal(out, ids) {
			b.Fatal("ids differ")
		}
	})
}

func BenchmarkTwins(b *testing.B) {
	tok, emb := tokens(b, 16, 16), embedding(b, toklipv1.DType_DTYPE_FP16, false)
	vec, _ := api.EmbeddingVector(nil, emb)
	buf := make([]byte, 0, 1<<16)
	b.Run("tokens/protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = proto.MarshalOptions{}.MarshalAppend(buf[:0], tok)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("tokens/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = api.AppendTokensJSON(buf[:0], tok)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("embedding/fp16", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := api.SetEmbedding(emb, vec, toklipv1.DType_DTYPE_FP16, false); err != nil {
				b.Fatal(err)
			}
			buf, _ = proto.MarshalOptions{}.MarshalAppend(buf[:0], emb)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
	b.Run("embedding/json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = api.AppendEmbeddingJSON(buf[:0], emb)
		}
		b.ReportMetric(float64(len(buf)), "bytes")
	})
}
