#include "textflag.h"

// REDUCE adds the eight lanes of Y(n) and stores the sum.
#define REDUCE(Y, X, offset) \
	VEXTRACTF128 $1, Y, X12      \
	VADDPS X12, X, X             \
	VHADDPS X, X, X              \
	VHADDPS X, X, X              \
	VMOVSS X, offset(DI)

// func tileFMA(sums *[8]float32, x, w *float32, stride, n int)
//
// Y0..Y3: row 0 of x with rows 0..3 of w; Y4..Y7: row 1 of x.
TEXT ·tileFMA(SB), NOSPLIT, $0-40
	MOVQ sums+0(FP), DI
	MOVQ x+8(FP), SI
	MOVQ w+16(FP), R8
	MOVQ stride+24(FP), DX
	MOVQ n+32(FP), CX
	LEAQ (SI)(DX*1), R12
	LEAQ (R8)(DX*1), R9
	LEAQ (R8)(DX*2), R10
	LEAQ (R9)(DX*2), R11
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	XORQ AX, AX

loop:
	VMOVUPS (SI)(AX*4), Y8
	VMOVUPS (R12)(AX*4), Y9
	VMOVUPS (R8)(AX*4), Y10
	VMOVUPS (R9)(AX*4), Y11
	VMOVUPS (R10)(AX*4), Y12
	VMOVUPS (R11)(AX*4), Y13
	VFMADD231PS Y8, Y10, Y0
	VFMADD231PS Y8, Y11, Y1
	VFMADD231PS Y8, Y12, Y2
	VFMADD231PS Y8, Y13, Y3
	VFMADD231PS Y9, Y10, Y4
	VFMADD231PS Y9, Y11, Y5
	VFMADD231PS Y9, Y12, Y6
	VFMADD231PS Y9, Y13, Y7
	ADDQ $8, AX
	CMPQ AX, CX
	JLT loop

	REDUCE(Y0, X0, 0)
	REDUCE(Y1, X1, 4)
	REDUCE(Y2, X2, 8)
	REDUCE(Y3, X3, 12)
	REDUCE(Y4, X4, 16)
	REDUCE(Y5, X5, 20)
	REDUCE(Y6, X6, 24)
	REDUCE(Y7, X7, 28)
	VZEROUPPER
	RET
