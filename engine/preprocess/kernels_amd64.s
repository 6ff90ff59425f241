//go:build amd64

#include "textflag.h"

// Inner loops; kernels_amd64.go says what each computes and on what layout.
// Only Y0-Y15 are used, so that VZEROUPPER cleans up after all of them.

// Rounding before the shift by 22.
DATA half<>+0(SB)/4, $0x200000
GLOBL half<>(SB), RODATA|NOPTR, $4

// [a0 b0 c0 c0 | a1 b1 c1 c1] -> [a0 a1 b0 b1 c0 c1 . .], of 32-bit parts.
DATA weave<>+0(SB)/4, $0
DATA weave<>+4(SB)/4, $4
DATA weave<>+8(SB)/4, $1
DATA weave<>+12(SB)/4, $5
DATA weave<>+16(SB)/4, $2
DATA weave<>+20(SB)/4, $6
DATA weave<>+24(SB)/4, $3
DATA weave<>+28(SB)/4, $7
GLOBL weave<>(SB), RODATA|NOPTR, $32

// Four RGB pixels to RRRR GGGG BBBB.
DATA planes<>+0(SB)/8, $0x0a07040109060300
DATA planes<>+8(SB)/8, $0x808080800b080502
GLOBL planes<>(SB), RODATA|NOPTR, $16

DATA f255<>+0(SB)/4, $0x437f0000
GLOBL f255<>(SB), RODATA|NOPTR, $4
DATA f05<>+0(SB)/4, $0x3f000000
GLOBL f05<>(SB), RODATA|NOPTR, $4

// func gatherAVX2(tile, src *byte, at *[8]int, step, groups int, shuffle *[32]byte)
TEXT ·gatherAVX2(SB), NOSPLIT, $0-48
	MOVQ tile+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ at+16(FP), AX
	MOVQ step+24(FP), DX
	MOVQ groups+32(FP), CX
	MOVQ shuffle+40(FP), BX
	VMOVDQU (BX), Y15
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	MOVQ 32(AX), R12
	MOVQ 40(AX), R13
	MOVQ 48(AX), R14
	MOVQ 56(AX), R15

gatherLoop:
	VMOVDQU     (SI)(R8*1), X0
	VINSERTI128 $1, (SI)(R12*1), Y0, Y0
	VMOVDQU     (SI)(R9*1), X1
	VINSERTI128 $1, (SI)(R13*1), Y1, Y1
	VMOVDQU     (SI)(R10*1), X2
	VINSERTI128 $1, (SI)(R14*1), Y2, Y2
	VMOVDQU     (SI)(R11*1), X3
	VINSERTI128 $1, (SI)(R15*1), Y3, Y3
	VPSHUFB     Y15, Y0, Y0
	VPSHUFB     Y15, Y1, Y1
	VPSHUFB     Y15, Y2, Y2
	VPSHUFB     Y15, Y3, Y3
	VPUNPCKLDQ  Y1, Y0, Y4
	VPUNPCKHDQ  Y1, Y0, Y5
	VPUNPCKLDQ  Y3, Y2, Y6
	VPUNPCKHDQ  Y3, Y2, Y7
	VPUNPCKLQDQ Y6, Y4, Y8
	VPUNPCKHQDQ Y6, Y4, Y9
	VPUNPCKLQDQ Y7, Y5, Y10
	VMOVDQU     Y8, (DI)
	VMOVDQU     Y9, 32(DI)
	VMOVDQU     Y10, 64(DI)
	ADDQ        DX, SI
	ADDQ        $96, DI
	DECQ        CX
	JNZ         gatherLoop
	VZEROUPPER
	RET

// func interleaveAVX2(block, src *byte, at *[8]int, vectors int)
TEXT ·interleaveAVX2(SB), NOSPLIT, $0-32
	MOVQ block+0(FP), DI
	MOVQ src+8(FP), SI
	MOVQ at+16(FP), AX
	MOVQ vectors+24(FP), CX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11

interleaveLoop:
	VMOVDQU      (SI)(R8*1), Y0
	VMOVDQU      (SI)(R9*1), Y1
	VMOVDQU      (SI)(R10*1), Y2
	VMOVDQU      (SI)(R11*1), Y3
	VPUNPCKLBW   Y1, Y0, Y4
	VPUNPCKHBW   Y1, Y0, Y5
	VPUNPCKLBW   Y3, Y2, Y6
	VPUNPCKHBW   Y3, Y2, Y7
	VPUNPCKLWD   Y6, Y4, Y8
	VPUNPCKHWD   Y6, Y4, Y9
	VPUNPCKLWD   Y7, Y5, Y10
	VPUNPCKHWD   Y7, Y5, Y11
	VMOVDQU      X8, (DI)
	VMOVDQU      X9, 16(DI)
	VMOVDQU      X10, 32(DI)
	VMOVDQU      X11, 48(DI)
	VEXTRACTI128 $1, Y8, 64(DI)
	VEXTRACTI128 $1, Y9, 80(DI)
	VEXTRACTI128 $1, Y10, 96(DI)
	VEXTRACTI128 $1, Y11, 112(DI)
	ADDQ         $32, SI
	ADDQ         $128, DI
	DECQ         CX
	JNZ          interleaveLoop
	VZEROUPPER
	RET

#define CLEAR9 \
	VPXOR Y0, Y0, Y0; \
	VPXOR Y1, Y1, Y1; \
	VPXOR Y2, Y2, Y2; \
	VPXOR Y3, Y3, Y3; \
	VPXOR Y4, Y4, Y4; \
	VPXOR Y5, Y5, Y5; \
	VPXOR Y6, Y6, Y6; \
	VPXOR Y7, Y7, Y7; \
	VPXOR Y8, Y8, Y8

#define CLEAR12 \
	CLEAR9; \
	VPXOR Y9, Y9, Y9; \
	VPXOR Y10, Y10, Y10; \
	VPXOR Y11, Y11, Y11

// Three vectors of Y9-Y11 times the three digits at (R9).
#define DOT_VNNI \
	VPBROADCASTD (R9), Y12; \
	VPBROADCASTD 4(R9), Y13; \
	VPBROADCASTD 8(R9), Y14; \
	VPDPBUSD Y12, Y9, Y0; \
	VPDPBUSD Y12, Y10, Y3; \
	VPDPBUSD Y12, Y11, Y6; \
	VPDPBUSD Y13, Y9, Y1; \
	VPDPBUSD Y13, Y10, Y4; \
	VPDPBUSD Y13, Y11, Y7; \
	VPDPBUSD Y14, Y9, Y2; \
	VPDPBUSD Y14, Y10, Y5; \
	VPDPBUSD Y14, Y11, Y8; \
	ADDQ $12, R9

// a = (a + b<<8 + c<<16 + half) >> 22; half is in Y15.
#define FINISH_VNNI(a, b, c) \
	VPSLLD $8, b, b; \
	VPSLLD $16, c, c; \
	VPADDD Y15, a, a; \
	VPADDD c, b, b; \
	VPADDD b, a, a; \
	VPSRAD $22, a, a

// Y0, Y3, Y6 -> bytes [Y0 Y3 Y6 Y6] in each half of Y0, clipped to 0..255.
#define PACK_VNNI \
	FINISH_VNNI(Y0, Y1, Y2); \
	FINISH_VNNI(Y3, Y4, Y5); \
	FINISH_VNNI(Y6, Y7, Y8); \
	VPACKSSDW Y3, Y0, Y0; \
	VPACKSSDW Y6, Y6, Y6; \
	VPACKUSWB Y6, Y0, Y0

// func horizontalVNNI(low, high, tile, coefs *byte, spans *tapSpan, n int)
TEXT ·horizontalVNNI(SB), NOSPLIT, $0-48
	MOVQ low+0(FP), DI
	MOVQ high+8(FP), SI
	MOVQ tile+16(FP), R8
	MOVQ coefs+24(FP), R9
	MOVQ spans+32(FP), R10
	MOVQ n+40(FP), R11
	VPBROADCASTD half<>(SB), Y15

hvPixel:
	MOVLQSX 0(R10), R12
	MOVL    4(R10), CX
	ADDQ    R8, R12
	ADDQ    $8, R10
	CLEAR9

hvGroup:
	VMOVDQU (R12), Y9
	VMOVDQU 32(R12), Y10
	VMOVDQU 64(R12), Y11
	DOT_VNNI
	ADDQ    $96, R12
	DECL    CX
	JNZ     hvGroup
	PACK_VNNI
	VMOVDQU      X0, (DI)
	VEXTRACTI128 $1, Y0, (SI)
	ADDQ    $12, DI
	ADDQ    $12, SI
	DECQ    R11
	JNZ     hvPixel
	VZEROUPPER
	RET

// func verticalVNNI(out, ring *byte, at *int32, coefs *byte, groups, chunks int)
TEXT ·verticalVNNI(SB), NOSPLIT, $0-48
	MOVQ out+0(FP), DI
	MOVQ ring+8(FP), R12
	MOVQ at+16(FP), R10
	MOVQ coefs+24(FP), R8
	MOVQ groups+32(FP), R11
	MOVQ chunks+40(FP), DX
	VPBROADCASTD half<>(SB), Y15

vvChunk:
	MOVQ R8, R9
	MOVQ R10, SI
	MOVQ R11, CX
	CLEAR9

vvGroup:
	MOVLQSX (SI), AX
	VMOVDQU (R12)(AX*1), Y9
	VMOVDQU 32(R12)(AX*1), Y10
	VMOVDQU 64(R12)(AX*1), Y11
	DOT_VNNI
	ADDQ    $4, SI
	DECQ    CX
	JNZ     vvGroup
	PACK_VNNI
	VMOVDQU weave<>(SB), Y1
	VPERMD  Y0, Y1, Y0
	VMOVDQU Y0, (DI)
	ADDQ    $24, DI
	ADDQ    $96, R12
	DECQ    DX
	JNZ     vvChunk
	VZEROUPPER
	RET

// 16 bytes at mem times the halves in Y12, Y13, added to up and down.
#define DOT16(mem, up, down) \
	VPMOVZXBW mem, Y14; \
	VPMADDWD Y12, Y14, Y15; \
	VPMADDWD Y13, Y14, Y14; \
	VPADDD Y15, up, up; \
	VPADDD Y14, down, down

// a = ((a<<11 + b) and (c<<11 + d), pairs added, + half) >> 22; half is in Y15.
#define FINISH_AVX2(a, b, c, d) \
	VPSLLD $11, a, a; \
	VPSLLD $11, c, c; \
	VPADDD b, a, a; \
	VPADDD d, c, c; \
	VPHADDD c, a, a; \
	VPERMQ $0xD8, a, a; \
	VPADDD Y15, a, a; \
	VPSRAD $22, a, a

#define PACK_AVX2 \
	VPBROADCASTD half<>(SB), Y15; \
	FINISH_AVX2(Y0, Y1, Y2, Y3); \
	FINISH_AVX2(Y4, Y5, Y6, Y7); \
	FINISH_AVX2(Y8, Y9, Y10, Y11); \
	VPACKSSDW Y4, Y0, Y0; \
	VPACKSSDW Y8, Y8, Y8; \
	VPACKUSWB Y8, Y0, Y0

// func horizontalAVX2(low, high, tile, coefs *byte, spans *tapSpan, n int)
TEXT ·horizontalAVX2(SB), NOSPLIT, $0-48
	MOVQ low+0(FP), DI
	MOVQ high+8(FP), SI
	MOVQ tile+16(FP), R8
	MOVQ coefs+24(FP), R9
	MOVQ spans+32(FP), R10
	MOVQ n+40(FP), R11

haPixel:
	MOVLQSX 0(R10), R12
	MOVL    4(R10), CX
	ADDQ    R8, R12
	ADDQ    $8, R10
	CLEAR12

haGroup:
	VPBROADCASTQ (R9), Y12
	VPBROADCASTQ 8(R9), Y13
	DOT16(0(R12), Y0, Y1)
	DOT16(16(R12), Y2, Y3)
	DOT16(32(R12), Y4, Y5)
	DOT16(48(R12), Y6, Y7)
	DOT16(64(R12), Y8, Y9)
	DOT16(80(R12), Y10, Y11)
	ADDQ    $16, R9
	ADDQ    $96, R12
	DECL    CX
	JNZ     haGroup
	PACK_AVX2
	VMOVDQU      X0, (DI)
	VEXTRACTI128 $1, Y0, (SI)
	ADDQ    $12, DI
	ADDQ    $12, SI
	DECQ    R11
	JNZ     haPixel
	VZEROUPPER
	RET

// func verticalAVX2(out, ring *byte, at *int32, coefs *byte, groups, chunks int)
TEXT ·verticalAVX2(SB), NOSPLIT, $0-48
	MOVQ out+0(FP), DI
	MOVQ ring+8(FP), R12
	MOVQ at+16(FP), R10
	MOVQ coefs+24(FP), R8
	MOVQ groups+32(FP), R11
	MOVQ chunks+40(FP), DX

vaChunk:
	MOVQ R8, R9
	MOVQ R10, SI
	MOVQ R11, CX
	CLEAR12

vaGroup:
	MOVLQSX (SI), AX
	ADDQ    R12, AX
	VPBROADCASTQ (R9), Y12
	VPBROADCASTQ 8(R9), Y13
	DOT16(0(AX), Y0, Y1)
	DOT16(16(AX), Y2, Y3)
	DOT16(32(AX), Y4, Y5)
	DOT16(48(AX), Y6, Y7)
	DOT16(64(AX), Y8, Y9)
	DOT16(80(AX), Y10, Y11)
	ADDQ    $16, R9
	ADDQ    $4, SI
	DECQ    CX
	JNZ     vaGroup
	PACK_AVX2
	VMOVDQU weave<>(SB), Y1
	VPERMD  Y0, Y1, Y0
	VMOVDQU Y0, (DI)
	ADDQ    $24, DI
	ADDQ    $96, R12
	DECQ    DX
	JNZ     vaChunk
	VZEROUPPER
	RET

// Eight integers to (x/255 - 0.5) / 0.5, each step rounded as float32.
// Doubling is exact, so it stands for the last division.
#define NORMALIZE(v) \
	VCVTDQ2PS v, v; \
	VDIVPS Y14, v, v; \
	VSUBPS Y15, v, v; \
	VADDPS v, v, v

// func normalizeAVX2(red, green, blue *float32, rgb *byte, eights int)
TEXT ·normalizeAVX2(SB), NOSPLIT, $0-40
	MOVQ red+0(FP), R8
	MOVQ green+8(FP), R9
	MOVQ blue+16(FP), R10
	MOVQ rgb+24(FP), SI
	MOVQ eights+32(FP), CX
	VBROADCASTI128 planes<>(SB), Y12
	VMOVDQU        weave<>(SB), Y13
	VBROADCASTSS   f255<>(SB), Y14
	VBROADCASTSS   f05<>(SB), Y15

normalizeLoop:
	VMOVDQU      (SI), X0
	VINSERTI128  $1, 12(SI), Y0, Y0
	VPSHUFB      Y12, Y0, Y0
	VPERMD       Y0, Y13, Y0
	VPMOVZXBD    X0, Y1
	VPSRLDQ      $8, X0, X2
	VPMOVZXBD    X2, Y2
	VEXTRACTI128 $1, Y0, X3
	VPMOVZXBD    X3, Y3
	NORMALIZE(Y1)
	NORMALIZE(Y2)
	NORMALIZE(Y3)
	VMOVUPS      Y1, (R8)
	VMOVUPS      Y2, (R9)
	VMOVUPS      Y3, (R10)
	ADDQ         $24, SI
	ADDQ         $32, R8
	ADDQ         $32, R9
	ADDQ         $32, R10
	DECQ         CX
	JNZ          normalizeLoop
	VZEROUPPER
	RET
