package preprocess_test

import (
	"fmt"

	"github.com/toklip/toklip/engine/preprocess"
)

// A camera's frames become the network's input, and a token's cell is found back
// in the frame.
func ExampleResizer() {
	resizer, err := preprocess.New(preprocess.Geometry{
		Width: 640, Height: 480, Format: preprocess.BGR8,
		Size: 256, Mode: preprocess.Squash,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	// A blue frame, as OpenCV hands it over: blue comes first.
	frame := make([]byte, 640*480*3)
	for i := 0; i < len(frame); i += 3 {
		frame[i] = 255
	}
	input := make([]float32, 3*256*256) // one image of a batch
	if err := resizer.Tensor(input, frame, 640*3); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("red, green, blue:", input[0], input[256*256], input[2*256*256])

	cell, err := resizer.Mapping().Cell(16, 16, 4, 8)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("token (4, 8) looks at", cell)
	// Output:
	// red, green, blue: -1 -1 1
	// token (4, 8) looks at {320 120 360 150}
}
