//go:build amd64

#include "textflag.h"

// func yuvAVX2(rgb, luma, chroma *byte, step, eights int, k *yuvVectors)
// k: 0 luma, 32 U, 64 V shuffles; 96 16; 128 128; 160 rounding;
// 192 Y, 224 V to R, 256 V to G, 288 U to G, 320 U to B; 352 RRRRGGGGBBBB to RGB.
TEXT ·yuvAVX2(SB), NOSPLIT, $0-48
	MOVQ rgb+0(FP), DI
	MOVQ luma+8(FP), SI
	MOVQ chroma+16(FP), DX
	MOVQ step+24(FP), AX
	MOVQ eights+32(FP), CX
	MOVQ k+40(FP), BX
	VMOVDQU 0(BX), Y5
	VMOVDQU 32(BX), Y6
	VMOVDQU 64(BX), Y7
	VMOVDQU 96(BX), Y8
	VMOVDQU 128(BX), Y9
	VMOVDQU 160(BX), Y10
	VMOVDQU 192(BX), Y11
	VMOVDQU 224(BX), Y12
	VMOVDQU 256(BX), Y13
	VMOVDQU 288(BX), Y14
	VMOVDQU 320(BX), Y15

yuvLoop:
	VBROADCASTI128 (SI), Y0
	VBROADCASTI128 (DX), Y1
	VPSHUFB        Y5, Y0, Y0
	VPSHUFB        Y6, Y1, Y2
	VPSHUFB        Y7, Y1, Y1
	VPSUBUSB       Y8, Y0, Y0
	VPSUBD         Y9, Y2, Y2
	VPSUBD         Y9, Y1, Y1
	VPMULLD        Y11, Y0, Y0
	VPMULLD        Y12, Y1, Y3
	VPMULLD        Y13, Y1, Y1
	VPMULLD        Y14, Y2, Y4
	VPMULLD        Y15, Y2, Y2
	VPADDD         Y10, Y0, Y0
	VPADDD         Y4, Y1, Y1
	VPADDD         Y0, Y3, Y3
	VPADDD         Y0, Y1, Y1
	VPADDD         Y0, Y2, Y2
	VPSRAD         $20, Y3, Y3
	VPSRAD         $20, Y1, Y1
	VPSRAD         $20, Y2, Y2
	VPACKSSDW      Y1, Y3, Y3
	VPACKSSDW      Y2, Y2, Y2
	VPACKUSWB      Y2, Y3, Y3
	VPSHUFB        352(BX), Y3, Y3
	VMOVDQU        X3, (DI)
	VEXTRACTI128   $1, Y3, 12(DI)
	ADDQ           AX, SI
	ADDQ           AX, DX
	ADDQ           $24, DI
	DECQ           CX
	JNZ            yuvLoop
	VZEROUPPER
	RET
